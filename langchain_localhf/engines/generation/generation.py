"""One answer while it is being made: the engine's thread writes tokens into it, the caller's reads text out of it."""

from __future__ import annotations

import asyncio
import queue
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from langchain_localhf.engines.generation.text import TextStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence

    from langchain_localhf.engines.generation.request import Request

FinishReason = Literal["stop", "length"]
# Windows hands Ctrl-C to a thread that waits for a lock only when it wakes up.
_WAKE_UP_SECONDS = 0.5


@dataclass(frozen=True)
class Token:
    """A generated token.

    Attributes:
        id: Its place in the vocabulary.
        logprob: The natural logarithm of its probability; None if it was not asked for.
        alternatives: The most probable tokens at this place with their log probabilities, the best first.
    """

    id: int
    logprob: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Answer:
    """A finished answer.

    Attributes:
        text: The text, without special tokens, and without the stop string that ended it.
        tokens: Every generated token, with the one that ended the answer.
        finish_reason: `stop` where the model or a stop string ended it, `length` where `max_tokens` did.
        prompt_tokens: How many tokens the prompt has.
    """

    text: str
    tokens: tuple[Token, ...]
    finish_reason: FinishReason
    prompt_tokens: int


@dataclass
class _End:
    """The last item of a generation."""

    error: BaseException | None = None


class Generation:
    """One answer that is being made.

    Read it once: iterate (or `async for`) over its pieces of text, or wait for `answer()`. Whoever stops reading
    before the end, by `cancel`, by closing the iterator, by an exception or by Ctrl-C, ends the generation.

    Args:
        request: What was asked for.
        decode: Turns token ids into text, with special tokens that the request's markers name and without others.
        end_ids: The tokens that end an answer.
    """

    def __init__(
        self, request: Request, *, decode: Callable[[Sequence[int]], str], end_ids: Collection[int] = ()
    ) -> None:
        self.request = request
        self._end_ids = frozenset(end_ids)
        self._stream = TextStream(decode, request.stop)
        self._tokens: list[Token] = []
        self._text: list[str] = []
        self._items: queue.SimpleQueue[str | _End] = queue.SimpleQueue()
        self._notify: Callable[[], object] | None = None
        self._finish_reason: FinishReason | None = None
        self._ended = False
        self.cancelled = False

    # What the engine calls, from one thread.

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to generate: finished, failed, or nobody wants it any more."""
        return self._ended or self.cancelled

    @property
    def token_count(self) -> int:
        """How many tokens were generated until now."""
        return len(self._tokens)

    @property
    def tokens_left(self) -> int:
        """How many tokens may still be generated."""
        return self.request.max_tokens - len(self._tokens)

    def accept(self, token: Token) -> None:
        """Takes the next token, and ends the generation where it has to end."""
        if self.is_over:
            return
        self._tokens.append(token)
        if token.id in self._end_ids:
            self._finish("stop")
            return
        self._put(self._stream.push(token.id))
        if self._stream.stopped:
            self._finish("stop")
        elif len(self._tokens) >= self.request.max_tokens:
            self._finish("length")

    def finish(self) -> None:
        """Ends the generation where the engine has no more tokens for it."""
        if not self.is_over:
            self._finish("stop")

    def fail(self, error: BaseException) -> None:
        """Ends the generation with an error, which the reader gets at once."""
        if not self.is_over:
            self._end(_End(error))

    def _finish(self, reason: FinishReason) -> None:
        self._put(self._stream.flush())
        self._finish_reason = "stop" if self._stream.stopped else reason
        self._end(_End())

    def _put(self, text: str) -> None:
        if text:
            self._text.append(text)
            self._send(text)

    def _end(self, end: _End) -> None:
        self._ended = True
        self._send(end)

    def _send(self, item: str | _End) -> None:
        self._items.put(item)
        if self._notify is not None:
            self._notify()

    # What the reader calls.

    def cancel(self) -> None:
        """Ends the generation at its next token. Its answer will never be finished."""
        if not self.is_over:
            self.cancelled = True
            self._send(_End())

    def __iter__(self) -> Iterator[str]:
        """The text as it comes, in pieces that are never empty.

        Raises:
            LocalHFError: The generation failed.
        """
        try:
            while not isinstance(item := self._next(), _End):
                yield item
            self._read_end(item)
        finally:
            self.cancel()

    async def __aiter__(self) -> AsyncIterator[str]:
        """As `__iter__`, without blocking the event loop."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(arrived.set)
            except RuntimeError:  # the loop was closed, so nobody reads any more
                self.cancelled = True

        self._notify = wake
        try:
            while not isinstance(item := await self._anext(arrived), _End):
                yield item
            self._read_end(item)
        finally:
            self.cancel()

    def _next(self) -> str | _End:
        while True:
            with suppress(queue.Empty):
                return self._items.get(timeout=_WAKE_UP_SECONDS)

    async def _anext(self, arrived: asyncio.Event) -> str | _End:
        while True:
            arrived.clear()  # before looking, so that whatever comes later sets it again
            with suppress(queue.Empty):
                return self._items.get_nowait()
            await arrived.wait()

    def _read_end(self, end: _End) -> None:
        self._items.put(end)  # whoever reads once more gets it again, and does not wait for ever
        if end.error is not None:
            raise end.error

    def answer(self) -> Answer:
        """Waits for the end.

        Raises:
            LocalHFError: The generation failed.
        """
        for _ in self:
            pass
        return self.finished

    async def aanswer(self) -> Answer:
        """As `answer`, without blocking the event loop."""
        async for _ in self:
            pass
        return self.finished

    @property
    def finished(self) -> Answer:
        """The answer, once all of its text was read."""
        if self._finish_reason is None:
            msg = "the answer is not finished"
            raise RuntimeError(msg)
        return Answer(
            text="".join(self._text),
            tokens=tuple(self._tokens),
            finish_reason=self._finish_reason,
            prompt_tokens=len(self.request.prompt.token_ids),
        )
