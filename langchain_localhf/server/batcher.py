"""Requests of many clients, computed together.

A free model starts at once with what there is; while it computes, more gathers. No time is spent on waiting for others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from langchain_localhf.server.failures import OverloadedError, UnavailableError
from langchain_localhf.server.turns import Turns, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from langchain_localhf.server.metrics import BatchMetrics

_log = logging.getLogger(__name__)
_FIRST_GUESS_TOKENS_PER_SECOND = 10_000.0
# How much of what was measured before counts beside the newest batch.
_MEMORY = 0.9

ContentT = TypeVar("ContentT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True, eq=False, slots=True)
class Item(Generic[ContentT]):
    """Something to compute.

    Attributes:
        content: What the model takes.
        key: Equal for equal contents, and short, since it is kept longer than the content.
        tokens: About what it costs.
    """

    content: ContentT
    key: Hashable
    tokens: int


@dataclass(eq=False, kw_only=True)
class _Pending(Waiting, Generic[ContentT, ResultT]):
    """An item that is not computed yet."""

    item: Item[ContentT]
    future: asyncio.Future[ResultT]


class Batcher(Generic[ContentT, ResultT]):
    """One model's queue, and the thread that computes.

    Equal items are computed once while they wait or are being computed, and the newest results are kept: the same input
    gets the same bits, though rounding depends on what else is in a batch.

    Args:
        compute: Gives the results of a batch, in its order; runs in a thread of its own.
        batch_tokens: How many tokens a batch has at most; a larger item has a batch to itself.
        queue_tokens: How many tokens wait at most; a request that comes to an empty queue may be larger.
        kept_results: How many results are kept.
        metrics: What to tell about each batch.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[ContentT]], Sequence[ResultT]],
        *,
        batch_tokens: int,
        queue_tokens: int,
        kept_results: int,
        metrics: BatchMetrics,
    ) -> None:
        self._compute, self._batch_tokens, self._queue_tokens = compute, batch_tokens, queue_tokens
        self._turns: Turns[_Pending[ContentT, ResultT]] = Turns()
        self._pending: dict[Hashable, _Pending[ContentT, ResultT]] = {}
        self._results: OrderedDict[Hashable, ResultT] = OrderedDict()
        self._kept_results = kept_results
        self._metrics = metrics
        metrics.waiting_tokens.set_function(lambda: self._turns.tokens)
        self._tokens, self._seconds = _FIRST_GUESS_TOKENS_PER_SECOND, 1.0
        self._thread = _thread()
        self._worker: asyncio.Task[None] | None = None
        self._is_closed = False

    async def submit(self, items: Sequence[Item[ContentT]]) -> list[ResultT]:
        """Computes items.

        Returns:
            Their results, in their order.

        Raises:
            OverloadedError: Too much waits already; nothing was queued.
            UnavailableError: The server shuts down, or the model broke.
            Exception: What computing an item raised: the first of those that failed together. The rest of the request
                is not computed any more.
        """
        if self._is_closed:
            raise UnavailableError("the server shuts down", hint="ask another one")
        results = {item.key: self._results[item.key] for item in items if item.key in self._results}
        for key in results:
            self._results.move_to_end(key)
        missing = {item.key: item for item in items if item.key not in results}
        if missing:
            results |= await self._computed(missing)
        return [results[item.key] for item in items]

    async def _computed(self, items: dict[Hashable, Item[ContentT]]) -> dict[Hashable, ResultT]:
        """The results of different items, whether others wait for some of them already or not."""
        new = [item for key, item in items.items() if key not in self._pending]
        self.check_room(sum(item.tokens for item in new))
        loop = asyncio.get_running_loop()
        for item in new:
            self._pending[item.key] = _Pending(tokens=item.tokens, item=item, future=loop.create_future())
        wanted = {key: self._pending[key] for key in items}
        request = object()
        self._turns.add(request, wanted.values())
        if self._worker is None or self._worker.done():
            self._worker = loop.create_task(self._work())
        try:
            # Not awaited one by one: who leaves would cancel what others wait for, too.
            await asyncio.wait([one.future for one in wanted.values()], return_when=asyncio.FIRST_EXCEPTION)
            for one in wanted.values():
                if one.future.done():
                    one.future.result()  # raises what went wrong
            return {key: one.future.result() for key, one in wanted.items()}
        finally:
            for one in self._turns.remove(request):  # nobody computes for a client that has left
                del self._pending[one.item.key]

    def check_room(self, tokens: int, *, beside: int = 0) -> None:
        """Checks that so much more may wait.

        Args:
            tokens: About what it costs.
            beside: What will wait soon and does not stand in the queue yet.

        Raises:
            OverloadedError: Too much waits already.
        """
        waiting = self._turns.tokens + beside
        too_many = waiting + min(tokens, self._queue_tokens) - self._queue_tokens
        if waiting and too_many > 0:
            self._metrics.refused.inc()
            msg = f"about {waiting} tokens wait already, and {tokens} more are over the limit"
            raise OverloadedError(msg, retry_after_seconds=too_many * self._seconds / self._tokens)

    async def _work(self) -> None:
        """Computes until nothing waits."""
        batch: list[_Pending[ContentT, ResultT]] = []
        try:
            while batch := self._turns.take(self._batch_tokens):
                await self._compute_batch(batch)
        except BaseException as error:
            # It must not happen; if it does, nobody may wait for ever, and the next request starts anew.
            self._give_up([*batch, *self._turns.take(self._turns.tokens)])
            if not isinstance(error, Exception):  # the loop ends
                raise
            _log.exception("the worker of a model broke")
            self._thread.shutdown(wait=False)
            self._thread = _thread()

    async def _compute_batch(self, batch: Sequence[_Pending[ContentT, ResultT]]) -> None:
        contents = [one.item.content for one in batch]
        started = time.perf_counter()
        outcomes = await asyncio.get_running_loop().run_in_executor(self._thread, self._outcomes, contents)
        seconds = time.perf_counter() - started
        tokens = sum(one.tokens for one in batch)
        self._tokens = _MEMORY * self._tokens + tokens
        self._seconds = _MEMORY * self._seconds + seconds
        self._metrics.observe(items=len(batch), tokens=tokens, seconds=seconds)
        for one, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Exception):
                self._settle(one, outcome)
            else:
                self._keep(one.item.key, outcome)
                del self._pending[one.item.key]
                one.future.set_result(outcome)

    def _outcomes(self, contents: Sequence[ContentT]) -> Sequence[ResultT | Exception]:
        """The result of each item, or why there is none: one bad item does not take the others with it."""
        try:
            results = self._compute(contents)
        except BaseException as error:  # noqa: BLE001 - it is what the client of this item gets
            if len(contents) == 1:
                return [_raisable(error)]
        else:
            return results
        middle = len(contents) // 2
        return [*self._outcomes(contents[:middle]), *self._outcomes(contents[middle:])]

    def _keep(self, key: Hashable, result: ResultT) -> None:
        self._results[key] = result
        if len(self._results) > self._kept_results:
            self._results.popitem(last=False)

    def _settle(self, one: _Pending[ContentT, ResultT], error: Exception) -> None:
        del self._pending[one.item.key]
        one.future.set_exception(error)
        one.future.exception()  # a client that has left does not read it

    def _give_up(self, batch: Sequence[_Pending[ContentT, ResultT]]) -> None:
        for one in batch:
            if not one.future.done():
                self._settle(one, UnavailableError("the worker of the model broke", hint="try again"))

    async def close(self) -> None:
        """Computes what waits already, and takes nothing more."""
        self._is_closed = True
        if self._worker is not None and not self._worker.done():
            await asyncio.wait({self._worker})
        self._thread.shutdown()


def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="model")


def _raisable(error: BaseException) -> Exception:
    """An error that may be raised in the event loop, which a panic of compiled code or an exit would end."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    _log.error("a model broke", exc_info=error)
    broken = UnavailableError(f"the model broke: {type(error).__name__}", hint="try again with other inputs")
    broken.__cause__ = error
    return broken
