"""One answer, written by one thread and read by another."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from langchain_localhf.engines.generation.generation import Generation, Token
from langchain_localhf.engines.generation.request import Prompt, Request
from langchain_localhf.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

_END = 0
_SOON = 5


def _decode(ids: Sequence[int]) -> str:
    """Each token is the character of its number."""
    return "".join(map(chr, ids))


def _generation(*, max_tokens: int = 1000, stop: tuple[str, ...] = ()) -> Generation:
    request = Request(Prompt((1, 2, 3)), max_tokens=max_tokens, stop=stop)
    return Generation(request, decode=_decode, end_ids=[_END])


def _write(generation: Generation, text: str, *, end: bool = False) -> None:
    for character in text:
        generation.accept(Token(ord(character)))
    if end:
        generation.accept(Token(_END))


class _Engine(threading.Thread):
    """Writes letters until nobody wants them any more."""

    def __init__(self, generation: Generation) -> None:
        super().__init__()
        self.generation = generation
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            while not self.generation.is_over:
                _write(self.generation, "a")
                time.sleep(0.001)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.error = error

    def stops_soon(self) -> bool:
        """Whether it ends, and without an error."""
        self.join(_SOON)
        return not self.is_alive() and self.error is None


async def _read(generation: Generation) -> list[str]:
    return [piece async for piece in generation]


def test_pieces_come_from_another_thread_as_they_are_written() -> None:
    """Reading waits for each, and the engine goes on meanwhile."""
    generation = _generation(max_tokens=50)
    engine = _Engine(generation)
    assert list(generation) == ["a"] * 50
    assert engine.stops_soon()
    assert generation.finished.finish_reason == "length"


async def test_pieces_come_while_the_event_loop_runs() -> None:
    """Other tasks go on while the model writes."""
    generation = _generation(max_tokens=50)
    engine, ticks = _Engine(generation), 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.001)

    other = asyncio.create_task(tick())
    assert await _read(generation) == ["a"] * 50
    other.cancel()
    assert ticks > 5
    assert engine.stops_soon()


async def test_many_are_read_at_once_and_none_loses_a_piece() -> None:
    """Each is woken for its own, whatever the threads do between two looks."""
    generations = [_generation(max_tokens=2000) for _ in range(8)]

    def write() -> None:
        for _ in range(2000):
            for generation in generations:
                _write(generation, "x")

    engine = threading.Thread(target=write)
    engine.start()
    answers = await asyncio.wait_for(asyncio.gather(*(generation.aanswer() for generation in generations)), 30)
    engine.join()
    assert [len(answer.text) for answer in answers] == [2000] * 8


async def test_what_was_written_before_reading_is_read() -> None:
    """Nothing was lost, with or without an event loop."""
    first, second = _generation(), _generation()
    for generation in (first, second):
        _write(generation, "abc", end=True)
    assert list(first) == ["a", "b", "c"]
    assert await asyncio.wait_for(_read(second), _SOON) == ["a", "b", "c"]


def test_an_answer_has_everything() -> None:
    """The end token counts, and has no text."""
    generation = _generation()
    generation.accept(Token(ord("a"), logprob=-0.5, alternatives=((98, -1.0),)))
    generation.accept(Token(_END))
    answer = generation.answer()
    assert answer.text == "a"
    assert answer.tokens == (Token(97, -0.5, ((98, -1.0),)), Token(_END))
    assert (answer.finish_reason, answer.prompt_tokens, generation.token_count) == ("stop", 3, 2)


@pytest.mark.parametrize(
    ("written", "text", "reason", "tokens"),
    [
        pytest.param("abcdefgh", "abcde", "length", 5, id="as many tokens as asked for"),
        pytest.param("ab\0cd", "ab", "stop", 3, id="an end token"),
        pytest.param("\0", "", "stop", 1, id="an end token at once"),
        pytest.param("abXYcd", "ab", "stop", 4, id="a stop string"),
        pytest.param("XYcd", "", "stop", 2, id="a stop string at once"),
        pytest.param("abcXYd", "abc", "stop", 5, id="a stop string with the last token"),
        pytest.param("abcdXY", "abcdX", "length", 5, id="the start of a stop string at the end"),
        pytest.param("abX\0", "abX", "stop", 4, id="an end token inside a stop string"),
    ],
)
async def test_where_an_answer_ends(written: str, text: str, reason: str, tokens: int) -> None:
    """What comes after the end is not taken, and no piece is empty."""
    first, second = _generation(max_tokens=5, stop=("XY",)), _generation(max_tokens=5, stop=("XY",))
    for generation in (first, second):
        _write(generation, written)
        assert generation.is_over
    answer = await second.aanswer()
    pieces = list(first)
    assert "".join(pieces) == answer.text == text
    assert all(pieces)
    assert (answer.finish_reason, len(answer.tokens)) == (reason, tokens)


def test_an_engine_without_more_tokens_ends_the_answer() -> None:
    """With the text that was held back; twice is as good as once."""
    generation = _generation(stop=("XY",))
    _write(generation, "aX")
    generation.finish()
    generation.finish()
    assert generation.answer().text == "aX"
    assert list(generation) == []


async def test_an_error_reaches_the_reader_at_once() -> None:
    """Behind the text that came before it; once more to whoever reads once more."""
    first, second = _generation(), _generation()
    for generation in (first, second):
        threading.Timer(0.05, generation.fail, [EngineError("out of memory")]).start()
        _write(generation, "a")
    pieces = iter(first)
    assert next(pieces) == "a"
    begin = time.monotonic()
    with pytest.raises(EngineError, match="out of memory"):
        next(pieces)
    with pytest.raises(EngineError, match="out of memory"):
        await asyncio.wait_for(second.aanswer(), _SOON)
    assert time.monotonic() - begin < 1
    with pytest.raises(EngineError, match="out of memory"):
        first.answer()
    assert first.is_over
    assert not first.cancelled


def test_an_error_after_the_end_changes_nothing() -> None:
    """The answer was whole already."""
    generation = _generation(max_tokens=1)
    _write(generation, "a")
    generation.fail(EngineError("too late"))
    assert generation.answer().text == "a"


def test_whoever_leaves_the_loop_ends_the_generation() -> None:
    """The engine sees it at its next token."""
    generation = _generation()
    engine = _Engine(generation)
    for _ in generation:
        break
    assert generation.cancelled
    assert engine.stops_soon()


def test_closing_the_iterator_ends_the_generation() -> None:
    """As a chain does that is not read to its end."""
    generation = _generation()
    engine = _Engine(generation)
    pieces: Any = iter(generation)
    next(pieces)
    pieces.close()
    assert generation.cancelled
    assert engine.stops_soon()


async def test_whoever_leaves_an_asynchronous_loop_ends_the_generation() -> None:
    """By `break`, or by closing the iterator."""
    left, closed = _generation(), _generation()
    engines = _Engine(left), _Engine(closed)
    async for _ in left:
        break
    pieces: Any = aiter(closed)
    await anext(pieces)
    await pieces.aclose()
    assert closed.cancelled
    await asyncio.sleep(0.1)
    assert left.cancelled
    assert all(engine.stops_soon() for engine in engines)


@pytest.mark.parametrize("written", ["", "abc"])
async def test_a_cancelled_task_ends_its_generation(written: str) -> None:
    """Also one that waits for the first token of a busy model."""
    generation = _generation()
    _write(generation, written)
    task = asyncio.create_task(generation.aanswer())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert generation.cancelled


def test_a_reader_stops_when_somebody_else_cancels() -> None:
    """Without waiting for a token that never comes."""
    generation = _generation()
    threading.Timer(0.05, generation.cancel).start()
    begin = time.monotonic()
    assert list(generation) == []
    assert time.monotonic() - begin < 1


async def test_an_asynchronous_reader_stops_when_somebody_else_cancels() -> None:
    """Also from another thread than the event loop's."""
    generation = _generation()
    threading.Timer(0.05, generation.cancel).start()
    assert await asyncio.wait_for(_read(generation), _SOON) == []


async def test_reading_after_a_cancel_does_not_hang() -> None:
    """There is the text until then, and no answer, however often one asks."""
    generation = _generation()
    _write(generation, "ab")
    generation.cancel()
    _write(generation, "cd", end=True)
    generation.fail(EngineError("nobody wants to know"))
    assert list(generation) == ["a", "b"]
    assert list(generation) == []
    assert await asyncio.wait_for(_read(generation), _SOON) == []
    with pytest.raises(RuntimeError, match="not finished"):
        generation.answer()


def test_cancelling_after_the_end_changes_nothing() -> None:
    """The answer is there."""
    generation = _generation()
    _write(generation, "ab", end=True)
    assert generation.answer().text == "ab"
    generation.cancel()
    assert not generation.cancelled
    assert generation.answer().text == "ab"


def test_a_generation_that_nobody_reads_ends_by_itself() -> None:
    """The engine never waits for a reader."""
    generation = _generation(max_tokens=20)
    assert _Engine(generation).stops_soon()
    assert generation.finished.text == "a" * 20


def test_an_event_loop_that_was_closed_while_it_read_ends_the_generation() -> None:
    """The engine's thread gets no error, and does not write for nobody."""
    generation = _generation()
    loop = asyncio.new_event_loop()
    pieces: Any = generation.__aiter__()
    _write(generation, "a")
    assert loop.run_until_complete(anext(pieces)) == "a"
    loop.close()
    assert not generation.is_over
    assert _Engine(generation).stops_soon()
    assert generation.cancelled


def test_asyncio_run_ends_what_it_leaves_behind() -> None:
    """A task that reads is cancelled with its loop."""
    generation = _generation()
    engine = _Engine(generation)

    async def main() -> asyncio.Task[list[str]]:
        task = asyncio.create_task(_read(generation))
        await asyncio.sleep(0.02)
        return task

    assert asyncio.run(main()).cancelled()
    assert generation.cancelled
    assert engine.stops_soon()


_INTERRUPTED = """
import os, signal, threading, time
from langchain_localhf.engines.generation.generation import Generation, Token
from langchain_localhf.engines.generation.request import Prompt, Request

generation = Generation(Request(Prompt((1,)), max_tokens=9), decode=lambda ids: "a" * len(ids))
generation.accept(Token(1))
sent = []

def interrupt():
    sent.append(time.monotonic())
    os.kill(os.getpid(), signal.SIGINT)

threading.Timer(0.2, interrupt).start()
try:
    for piece in generation:
        print(piece)
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - sent[0] < 1, generation.cancelled)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process there")
def test_ctrl_c_while_waiting_for_the_model() -> None:
    """It reaches the caller within a second, and ends the generation."""
    done = subprocess.run([sys.executable, "-c", _INTERRUPTED], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.stdout.split("\n") == ["a", "interrupted True True", ""], done.stderr
