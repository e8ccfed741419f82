"""How a chat model of LangChain answers with a generator: whole or in pieces, with threads or an event loop."""

from __future__ import annotations

import asyncio
import threading
from abc import abstractmethod
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.outputs import ChatResult
from langchain_core.runnables.config import get_config_list

from langchain_localhf.chat_models.answers import AnswerReader
from langchain_localhf.errors import EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import ChatGenerationChunk
    from langchain_core.runnables import RunnableConfig

    from langchain_localhf.chat_models.turns import Turn
    from langchain_localhf.engines.base import Generator
    from langchain_localhf.engines.generation.generation import Answer, Generation

# Callers of `batch` wait in threads of their own, and the model answers many of them together.
_MAX_WAITING = 64


class GeneratorChatModel(BaseChatModel):
    """A chat model whose answers a generator makes; subclasses say what is asked of it."""

    model_id: str | None = None
    """The name that the metadata of answers state."""
    stream_usage: bool | None = None
    """Whether the last piece of a stream says how many tokens there were; None does."""
    timeout: float | None = None
    """The most seconds to wait for an answer."""

    @property
    @abstractmethod
    def _generator(self) -> Generator:
        """What makes the answers."""

    @abstractmethod
    def _turn(self, messages: Sequence[BaseMessage], stop: Sequence[str] | None, call: dict[str, Any]) -> Turn:
        """What is asked for: with these messages, stop strings and whatever else was said with the call."""

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - answers come whole
        **kwargs: Any,  # noqa: ANN401
    ) -> ChatResult:
        turn, generations = self._started(messages, stop, kwargs)
        with self._supervised(generations):
            return self._result(turn, [generation.answer() for generation in generations])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - answers come whole
        **kwargs: Any,  # noqa: ANN401
    ) -> ChatResult:
        turn, generations = await self._astarted(messages, stop, kwargs)
        with self._supervised(generations):
            return self._result(turn, [await generation.aanswer() for generation in generations])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> Iterator[ChatGenerationChunk]:
        turn, generations = self._started(messages, stop, kwargs, single=True)
        with self._supervised(generations):
            reader, generation = self._answer_readers(turn, kwargs)[0], generations[0]
            for piece in generation:
                for chunk in reader.pieces(piece):
                    yield _announced(chunk, run_manager)
            for chunk in reader.last_pieces(generation.finished):
                yield _announced(chunk, run_manager)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> AsyncIterator[ChatGenerationChunk]:
        turn, generations = await self._astarted(messages, stop, kwargs, single=True)
        with self._supervised(generations):
            reader, generation = self._answer_readers(turn, kwargs)[0], generations[0]
            async with aclosing(aiter(generation)) as pieces:  # type: ignore[type-var] # it is an async generator
                async for piece in pieces:
                    for chunk in reader.pieces(piece):
                        yield await _aannounced(chunk, run_manager)
            for chunk in reader.last_pieces(generation.finished):
                yield await _aannounced(chunk, run_manager)

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> list[AIMessage]:
        """Answers conversations together; `max_concurrency` in the config limits how many wait at the same time."""
        configs = _together(config, len(inputs))
        return super().batch(inputs, configs, return_exceptions=return_exceptions, **kwargs)

    def batch_as_completed(  # type: ignore[override] # one signature for the two that it has in LangChain
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | Sequence[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,  # noqa: ANN401
    ) -> Iterator[tuple[int, AIMessage | Exception]]:
        """As `batch`, and gives each answer with its place as soon as it is there."""
        configs = _together(config, len(inputs))
        return super().batch_as_completed(inputs, configs, return_exceptions=return_exceptions, **kwargs)  # type: ignore[call-overload, no-any-return]

    def _started(
        self, messages: list[BaseMessage], stop: list[str] | None, call: dict[str, Any], *, single: bool = False
    ) -> tuple[Turn, list[Generation]]:
        turn = self._turn(messages, stop, call)
        if single and len(turn.requests) > 1:
            msg = f"a stream is one answer, not {len(turn.requests)}"
            raise InputError(msg, hint="leave n out, or use generate without streaming")
        return turn, self._generator.submit(turn.requests)

    async def _astarted(
        self, messages: list[BaseMessage], stop: list[str] | None, call: dict[str, Any], *, single: bool = False
    ) -> tuple[Turn, list[Generation]]:
        """As `_started`, without blocking the event loop."""
        work = asyncio.ensure_future(asyncio.to_thread(self._started, messages, stop, call, single=single))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:  # the thread goes on; what it starts ends at once
            work.add_done_callback(_end)
            raise

    @contextmanager
    def _supervised(self, generations: Sequence[Generation]) -> Iterator[None]:
        """Ends the generations when nobody waits for them any more, at the latest when their time is over."""
        timer = None
        if self.timeout is not None:
            timer = threading.Timer(self.timeout, _time_out, [generations, self.timeout])
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            for generation in generations:
                generation.cancel()
            if timer is not None:
                timer.cancel()

    def _answer_readers(self, turn: Turn, call: dict[str, Any]) -> list[AnswerReader]:
        asked = call.get("stream_usage", self.stream_usage)
        return [
            AnswerReader(
                self._generator,
                reader,
                model_name=self.model_id or "",
                one_call=turn.one_call,
                with_usage=asked is not False,
            )
            for reader in turn.readers
        ]

    def _result(self, turn: Turn, answers: Sequence[Answer]) -> ChatResult:
        readers = self._answer_readers(turn, {})
        generations = [reader.whole(answer) for reader, answer in zip(readers, answers, strict=True)]
        return ChatResult(generations=list(generations), llm_output={"model_name": self.model_id})


def _together(config: RunnableConfig | Sequence[RunnableConfig] | None, count: int) -> list[RunnableConfig]:
    """A configuration for each of so many inputs, with enough threads for all of them to wait together."""
    configs = get_config_list(config, count)
    if configs and configs[0].get("max_concurrency") is None:
        configs[0] = {**configs[0], "max_concurrency": min(count, _MAX_WAITING)}
    return configs


def _end(work: asyncio.Future[tuple[Turn, list[Generation]]]) -> None:
    if not work.cancelled() and work.exception() is None:
        for generation in work.result()[1]:
            generation.cancel()


def _time_out(generations: Sequence[Generation], seconds: float) -> None:
    for generation in generations:
        msg = f"the answer was not finished after {seconds:g} seconds"
        generation.fail(EngineError(msg, hint="raise timeout, or lower max_tokens"))


def _announced(chunk: ChatGenerationChunk, run_manager: CallbackManagerForLLMRun | None) -> ChatGenerationChunk:
    if run_manager is not None:
        run_manager.on_llm_new_token(chunk.text, chunk=chunk)
    return chunk


async def _aannounced(
    chunk: ChatGenerationChunk, run_manager: AsyncCallbackManagerForLLMRun | None
) -> ChatGenerationChunk:
    if run_manager is not None:
        await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
    return chunk
