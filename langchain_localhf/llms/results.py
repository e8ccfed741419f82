"""LangChain's results out of what a model writes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_core.outputs import Generation, GenerationChunk, LLMResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun

    from langchain_localhf.engines.base import Generator
    from langchain_localhf.engines.generation.generation import Answer
    from langchain_localhf.engines.generation.settings import Settings


def result(
    prompts: Sequence[str],
    answers: Sequence[Answer],
    settings: Settings,
    generator: Generator,
    *,
    model_name: str | None,
) -> LLMResult:
    """The answers to prompts, `settings.n` for each, with what they cost.

    Args:
        prompts: The prompts.
        answers: The answers to the first, then those to the second, and so on.
        settings: How they were made.
        generator: What made them.
        model_name: The model's name, for the metadata.
    """
    by_prompt = [answers[start : start + settings.n] for start in range(0, len(answers), settings.n)]
    generations = [
        [
            Generation(
                text=prompt + answer.text if settings.return_full_text else answer.text,
                generation_info=_information(answer, generator),
            )
            for answer in own
        ]
        for prompt, own in zip(prompts, by_prompt, strict=True)
    ]
    prompt_tokens = sum(own[0].prompt_tokens for own in by_prompt)
    completion_tokens = sum(len(answer.tokens) for answer in answers)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }
    return LLMResult(generations=generations, llm_output={"token_usage": usage, "model_name": model_name})


def _information(answer: Answer, generator: Generator) -> dict[str, Any]:
    info: dict[str, Any] = {
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": len(answer.tokens),
    }
    if any(token.logprob is not None for token in answer.tokens):
        text = generator.token_text
        info["logprobs"] = [
            {
                "token": text(token.id),
                "logprob": token.logprob,
                "top_logprobs": {text(other): logprob for other, logprob in token.alternatives},
            }
            for token in answer.tokens
        ]
    return info


def announced(text: str, run_manager: CallbackManagerForLLMRun | None) -> GenerationChunk:
    """A piece of a stream, of which the callbacks have heard."""
    chunk = GenerationChunk(text=text)
    if run_manager is not None:
        run_manager.on_llm_new_token(text, chunk=chunk)
    return chunk


async def aannounced(text: str, run_manager: AsyncCallbackManagerForLLMRun | None) -> GenerationChunk:
    """As `announced`, for asynchronous callbacks."""
    chunk = GenerationChunk(text=text)
    if run_manager is not None:
        await run_manager.on_llm_new_token(text, chunk=chunk)
    return chunk
