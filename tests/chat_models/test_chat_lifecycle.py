"""Who stops waiting ends the answer, and who waits together is answered together."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from support import language_models

from langchain_localhf.chat_models import ChatHuggingFace
from langchain_localhf.errors import EngineError
from langchain_localhf.llms import HuggingFacePipeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_localhf.engines.generation.generation import Generation
    from langchain_localhf.engines.generation.request import Request

# By itself, the model ends some of its answers early.
LONG = {"model_kwargs": {"min_new_tokens": 450}}


class Watched:
    """A generator that remembers what it was asked for.

    Args:
        generator: What does the work.
        before: Called before each request is handed on.
    """

    def __init__(self, generator: Any, before: Callable[[], object] | None = None) -> None:
        self._generator = generator
        self._before = before
        self.generations: list[Generation] = []
        self.has_begun = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def submit(self, requests: Sequence[Request]) -> list[Generation]:
        if self._before is not None:
            self._before()
        generations = self._generator.submit(requests)
        self.generations += generations
        self.has_begun.set()
        return generations


def watched(before: Callable[[], object] | None = None, **fields: Any) -> tuple[ChatHuggingFace, Watched]:
    """A chat with answers as long as its model can, and what watches it."""
    llm = HuggingFacePipeline.from_model_id(str(language_models.folder("qwen2")), task="text-generation")
    generator = Watched(llm.generator, before)
    llm._generator = generator
    return ChatHuggingFace(**{"llm": llm, "max_tokens": 450, **LONG, **fields}), generator


def assert_abandoned(generator: Watched) -> None:
    """The answers were begun, and will never be finished."""
    assert generator.generations
    assert all(generation.cancelled for generation in generator.generations)


def test_a_closed_stream_ends_its_answer() -> None:
    """At once, not when its tokens are used up."""
    chat, generator = watched()
    stream = chat.stream("Hello")
    next(stream)
    stream.close()
    assert_abandoned(generator)


async def test_a_closed_async_stream_ends_its_answer() -> None:
    """As a closed stream does."""
    chat, generator = watched()
    stream = chat.astream("Hello")
    await anext(stream)
    await stream.aclose()
    assert_abandoned(generator)


async def test_a_cancelled_task_ends_its_answer() -> None:
    """Here by a limit of time around it."""
    chat, generator = watched()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(chat.ainvoke("Hello"), timeout=0.05)
    assert_abandoned(generator)


async def test_a_task_that_is_cancelled_before_its_answer_begins_leaves_none_behind() -> None:
    """While its prompt is being prepared."""
    preparing, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        preparing.set()
        go_on.wait(10)

    chat, generator = watched(wait)
    task = asyncio.create_task(chat.ainvoke("Hello"))
    await asyncio.to_thread(preparing.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await asyncio.to_thread(generator.has_begun.wait, 10)
    for _ in range(500):  # until the loop has heard of it
        if generator.generations[0].cancelled:
            break
        await asyncio.sleep(0.01)
    assert_abandoned(generator)


@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_an_answer_that_takes_too_long_is_an_error(way: str) -> None:
    """With what to change; the model stops as well."""
    chat, generator = watched(timeout=0.05)
    with pytest.raises(EngineError, match=r"after 0\.05 seconds"):
        list(getattr(chat, way)("Hello"))
    assert all(generation.is_over for generation in generator.generations)


def test_an_answer_in_time_is_none() -> None:
    """Nor does its clock go on."""
    chat, _ = watched(timeout=60, max_tokens=2, model_kwargs={})
    before = threading.active_count()
    assert chat.invoke("Hello").content
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_all_conversations_of_a_batch_wait_together() -> None:
    """More of them than LangChain's own batch would have at the same time."""
    everyone = threading.Barrier(40)
    chat, generator = watched(lambda: everyone.wait(10), max_tokens=2, model_kwargs={})
    chat.batch([f"Hello {number}" for number in range(40)])
    assert len(generator.generations) == 40
    assert len(list(chat.batch_as_completed([f"Hello {number}" for number in range(40)]))) == 40


def test_max_concurrency_limits_who_waits() -> None:
    """As everywhere in LangChain."""
    waiting: set[int] = set()
    chat, _ = watched(lambda: waiting.add(threading.get_ident()), max_tokens=2, model_kwargs={})
    chat.batch(["Hello"] * 8, config={"max_concurrency": 2})
    assert len(waiting) <= 2
    assert chat.batch([]) == []
