"""Requests wait here while the model is busy; those that go together make the next batch."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from langchain_localhf.engines.generation.generation import Generation
    from langchain_localhf.engines.generation.request import Request

# Callers in several threads come within so long of each other; it is short beside one step of a model.
_GATHERING_SECONDS = 0.003
# A batch holds so many tokens at most, padding and answers included: its memory grows with them.
_TOKEN_BUDGET = 16_384
_MAX_ROWS = 64


class GenerationQueue:
    """Runs generations in batches, in a thread that lives only while there are any.

    Args:
        run: Runs a batch to its end, and ends each of its generations.
        key: What requests have to have in common to run in one batch.
        max_rows: How many requests run in one batch at most; None for as many as pay.
    """

    def __init__(
        self,
        run: Callable[[list[Generation]], None],
        *,
        key: Callable[[Request], Hashable],
        max_rows: int | None = None,
    ) -> None:
        self._run = run
        self._key = key
        self._max_rows = max_rows or _MAX_ROWS
        self._waiting: list[tuple[Hashable, Generation]] = []
        self._lock = threading.Lock()
        self._is_running = False

    def submit(self, generations: Sequence[Generation]) -> None:
        """Lets them run as soon as it is their turn."""
        try:
            with self._lock:
                self._waiting += [(self._key(generation.request), generation) for generation in generations]
                if not self._is_running:
                    # No daemon: torch does not survive that its thread is cut off when the process ends.
                    threading.Thread(target=self._work, name="localhf-generation").start()
        except BaseException:  # Ctrl-C can come anywhere, and then nobody will read them
            for generation in generations:
                generation.cancel()
            raise

    def _work(self) -> None:
        # Said by the thread itself: whoever starts it may be interrupted before it runs, or when it does already.
        with self._lock:
            if self._is_running:
                return
            self._is_running = True
        time.sleep(_GATHERING_SECONDS)
        while batch := self._next_batch():
            try:
                self._run(batch)
            except BaseException as error:  # noqa: BLE001 - whoever waits for an answer gets it, whatever it is
                for generation in batch:
                    generation.fail(error)

    def _next_batch(self) -> list[Generation]:
        """The one that came first, and those that go with it; empty when nothing waits any more."""
        with self._lock:
            self._waiting = [(key, generation) for key, generation in self._waiting if not generation.is_over]
            if not self._waiting:
                self._is_running = False
                return []
            first_key, first = self._waiting[0]
            alike = sorted((g for key, g in self._waiting if key == first_key), key=_length)
            batch = next(part for part in self._parts(alike) if any(g is first for g in part))
            chosen = {id(generation) for generation in batch}
            self._waiting = [(key, generation) for key, generation in self._waiting if id(generation) not in chosen]
            return batch

    def _parts(self, ordered: list[Generation]) -> list[list[Generation]]:
        """Generations, ordered by the length of their prompts, in batches that keep to the budget."""
        parts: list[list[Generation]] = [[]]
        longest_answer = 0
        for generation in ordered:
            longest_answer = max(longest_answer, generation.request.max_tokens)
            tokens = (len(parts[-1]) + 1) * (_length(generation) + longest_answer)
            if parts[-1] and (len(parts[-1]) == self._max_rows or tokens > _TOKEN_BUDGET):
                parts.append([])
                longest_answer = generation.request.max_tokens
            parts[-1].append(generation)
        return parts


def _length(generation: Generation) -> int:
    return len(generation.request.prompt.token_ids)


def options_key(options: Any) -> Hashable:  # noqa: ANN401 - whatever plain data a user's settings are made of
    """The same for equal settings, whatever they are made of."""
    if isinstance(options, dict):
        return tuple(sorted((str(name), options_key(value)) for name, value in options.items()))
    if isinstance(options, list | tuple):
        return tuple(options_key(value) for value in options)
    return (type(options).__name__, repr(options))
