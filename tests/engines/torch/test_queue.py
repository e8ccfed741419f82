"""The queue of requests: who goes with whom, and that nobody waits for ever."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from langchain_localhf.engines.generation.generation import Generation, Token
from langchain_localhf.engines.generation.request import Prompt, Request
from langchain_localhf.engines.torch.queue import GenerationQueue, options_key

if TYPE_CHECKING:
    from collections.abc import Sequence


def generation(length: int = 3, *, max_tokens: int = 1, key: str = "") -> Generation:
    """A request that is answered by any token."""
    request = Request(Prompt(tuple(range(length))), max_tokens=max_tokens, options={"key": key})
    return Generation(request, decode=lambda ids: "x" * len(ids))


def answer(batch: Sequence[Generation]) -> None:
    """Ends each answer with its one token."""
    for one in batch:
        one.accept(Token(1))


class Recorded:
    """A queue that answers at once, and the lengths of the prompts in each of its batches."""

    def __init__(self, **settings: int) -> None:
        self.batches: list[list[int]] = []
        self.queue = GenerationQueue(self._run, key=lambda request: request.options["key"], **settings)

    def _run(self, batch: list[Generation]) -> None:
        self.batches.append([len(one.request.prompt.token_ids) for one in batch])
        answer(batch)


def test_like_requests_go_together_by_their_lengths() -> None:
    """The batch of the one that came first is the first."""
    recorded = Recorded(max_rows=2)
    waiting = [generation(9), generation(2), generation(5), generation(4, key="other")]
    recorded.queue.submit(waiting)
    assert [one.answer().text for one in waiting] == ["x"] * 4
    assert recorded.batches == [[9], [2, 5], [4]]


def test_a_batch_keeps_to_the_budget_of_tokens() -> None:
    """Long answers and long prompts are not all computed at once."""
    recorded = Recorded()
    waiting = [generation(4000, max_tokens=4000) for _ in range(3)]
    recorded.queue.submit(waiting)
    for one in waiting:
        one.cancel()
    assert max(len(batch) for batch in recorded.batches or [[0]]) <= 2


def test_whoever_was_cancelled_is_not_run() -> None:
    """Though it had been submitted."""
    recorded = Recorded()
    gone, here = generation(7), generation(3)
    gone.cancel()
    recorded.queue.submit([gone, here])
    assert here.answer().text == "x"
    assert recorded.batches == [[3]]


def test_an_error_reaches_everyone_in_its_batch() -> None:
    """Whatever it is, and the queue goes on."""
    errors = [MemoryError("too much")]

    def run(batch: list[Generation]) -> None:
        if errors:
            raise errors.pop()
        answer(batch)

    queue = GenerationQueue(run, key=lambda request: None)
    first, second = generation(), generation()
    queue.submit([first, second])
    for one in (first, second):
        with pytest.raises(MemoryError, match="too much"):
            one.answer()
    third = generation()
    queue.submit([third])
    assert third.answer().text == "x"


def test_an_interrupted_submission_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the thread starts: nobody reads these answers, and the next ones are made."""
    recorded = Recorded()
    lost = generation(7)

    def interrupted(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            recorded.queue.submit([lost])
    assert lost.cancelled
    kept = generation(3)
    recorded.queue.submit([kept])
    assert kept.answer().text == "x"
    assert recorded.batches == [[3]]


def test_the_thread_ends_with_the_work() -> None:
    """An idle model costs no thread, and keeps no process alive."""
    recorded = Recorded()
    one = generation()
    recorded.queue.submit([one])
    one.answer()
    for thread in threading.enumerate():
        if thread.name == "localhf-generation":
            thread.join(timeout=5)
    assert all(thread.name != "localhf-generation" for thread in threading.enumerate())


def test_equal_settings_are_equal_whatever_they_are_made_of() -> None:
    """Lists, tuples and dictionaries in any order; numbers that print alike are not."""
    assert options_key({"a": [1, (2,)], "b": {"x": 1}}) == options_key({"b": {"x": 1}, "a": (1, [2])})
    assert options_key({"a": 1}) != options_key({"a": "1"})
