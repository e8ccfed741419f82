"""LangChain's messages out of what a model writes, whole and in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk

from langchain_localhf.chat_models.tools import invalid_tool_call, tool_call
from langchain_localhf.engines.generation.reply import BrokenToolCall, Content, Reasoning, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_localhf.engines.base import Generator
    from langchain_localhf.engines.generation.generation import Answer
    from langchain_localhf.engines.generation.reply import ReplyPart, ReplyReader


class AnswerReader:
    """Reads one answer of a model, whole or piece by piece.

    Args:
        generator: What writes it.
        reader: What tells apart of what it is made.
        model_name: The model's name, for the metadata.
        one_call: Whether the answer may hold one call of a function at most; later ones are left out.
        with_usage: Whether the metadata of a stream says how many tokens there were.
    """

    def __init__(
        self,
        generator: Generator,
        reader: ReplyReader,
        *,
        model_name: str,
        one_call: bool = False,
        with_usage: bool = True,
    ) -> None:
        self._generator = generator
        self._reader = reader
        self._model_name = model_name
        self._one_call = one_call
        self._with_usage = with_usage
        self._calls = 0

    def whole(self, answer: Answer) -> ChatGeneration:
        """The message that a finished answer is."""
        parts = list(self._allowed([*self._reader.feed(answer.text), *self._reader.finish()]))
        reasoning = "".join(part.text for part in parts if isinstance(part, Reasoning))
        message = AIMessage(
            content="".join(part.text for part in parts if isinstance(part, Content)),
            additional_kwargs={"reasoning_content": reasoning} if reasoning else {},
            tool_calls=[tool_call(part) for part in parts if isinstance(part, ToolCall)],
            invalid_tool_calls=[invalid_tool_call(part) for part in parts if isinstance(part, BrokenToolCall)],
            usage_metadata=_usage(answer),
            response_metadata=self._metadata(answer),
        )
        return ChatGeneration(message=message, generation_info=self._information(answer))

    def pieces(self, text: str) -> list[ChatGenerationChunk]:
        """What is certain of the message after the next piece of text; often nothing new."""
        return [ChatGenerationChunk(message=self._chunk(part)) for part in self._allowed(self._reader.feed(text))]

    def last_pieces(self, answer: Answer) -> list[ChatGenerationChunk]:
        """The rest of the message; the last piece carries what is known about it as a whole."""
        rest = [ChatGenerationChunk(message=self._chunk(part)) for part in self._allowed(self._reader.finish())]
        message = AIMessageChunk(
            content="",
            usage_metadata=_usage(answer) if self._with_usage else None,
            response_metadata=self._metadata(answer),
            chunk_position="last",
        )
        return [*rest, ChatGenerationChunk(message=message, generation_info=self._information(answer))]

    def _allowed(self, parts: Sequence[ReplyPart]) -> Iterator[ReplyPart]:
        """The parts that belong into the message; counts the calls among them."""
        for part in parts:
            if isinstance(part, ToolCall):
                if self._one_call and self._calls:
                    continue
                self._calls += 1
            if not isinstance(part, Content | Reasoning) or part.text:
                yield part

    def _chunk(self, part: ReplyPart) -> AIMessageChunk:
        if isinstance(part, Content):
            return AIMessageChunk(content=part.text)
        if isinstance(part, Reasoning):
            return AIMessageChunk(content="", additional_kwargs={"reasoning_content": part.text})
        if isinstance(part, BrokenToolCall):
            return AIMessageChunk(content="", invalid_tool_calls=[invalid_tool_call(part)])
        identity = tool_call(part)["id"]
        # The arguments whole: until a call is complete, it is not certain that it is one.
        call = tool_call_chunk(name=part.name, args=part.arguments, id=identity, index=self._calls - 1)
        return AIMessageChunk(content="", tool_call_chunks=[call])

    def _metadata(self, answer: Answer) -> dict[str, Any]:
        return {"model_name": self._model_name, **self._information(answer)}

    def _information(self, answer: Answer) -> dict[str, Any]:
        called = self._calls and answer.finish_reason == "stop"
        information: dict[str, Any] = {"finish_reason": "tool_calls" if called else answer.finish_reason}
        if any(token.logprob is not None for token in answer.tokens):
            information["logprobs"] = {"content": self._logprobs(answer)}
        return information

    def _logprobs(self, answer: Answer) -> list[dict[str, Any]]:
        """The probabilities of the tokens, in OpenAI's form."""

        def described(token_id: int, logprob: float | None) -> dict[str, Any]:
            return {"token": self._generator.token_text(token_id), "logprob": logprob}

        return [
            {
                **described(token.id, token.logprob),
                "top_logprobs": [described(other, logprob) for other, logprob in token.alternatives],
            }
            for token in answer.tokens
        ]


def _usage(answer: Answer) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=answer.prompt_tokens,
        output_tokens=len(answer.tokens),
        total_tokens=answer.prompt_tokens + len(answer.tokens),
    )
