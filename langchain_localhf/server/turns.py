"""What waits for a model: a queue for each request, which get their turns one after the other."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable


@dataclass(eq=False)
class Waiting:
    """Something that one request or several wait for.

    Attributes:
        tokens: About what it costs.
        waiters: How many requests wait for it.
        is_taken: Whether it left the queue, to be computed.
    """

    tokens: int
    waiters: int = 0
    is_taken: bool = False


WaitingT = TypeVar("WaitingT", bound=Waiting)


class Turns(Generic[WaitingT]):
    """Lets every request have one of its items computed before any has the next one.

    What several requests wait for stands in the queue of each, and is computed when the first of them has its turn.

    Attributes:
        tokens: About what everything that waits costs.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self._queues: OrderedDict[Hashable, deque[WaitingT]] = OrderedDict()

    def add(self, request: Hashable, wanted: Iterable[WaitingT]) -> None:
        """Lets a request wait for its turn, behind all others."""
        queue = deque(one for one in wanted if not one.is_taken)
        for one in queue:
            self.tokens += 0 if one.waiters else one.tokens
            one.waiters += 1
        if queue:
            self._queues[request] = queue

    def remove(self, request: Hashable) -> list[WaitingT]:
        """Takes out a request that does not wait any longer.

        Returns:
            What nobody waits for now.
        """
        unwanted = []
        for one in self._queues.pop(request, ()):
            if one.is_taken:
                continue
            one.waiters -= 1
            if not one.waiters:
                self.tokens -= one.tokens
                unwanted.append(one)
        return unwanted

    def take(self, token_budget: int) -> list[WaitingT]:
        """The next batch: as much as the budget allows, or one item that is larger."""
        batch: list[WaitingT] = []
        spent = 0
        while self._queues:
            request = next(iter(self._queues))
            queue = self._queues[request]
            one = queue[0]
            if not one.is_taken:
                if batch and spent + one.tokens > token_budget:
                    break
                one.is_taken = True
                batch.append(one)
                spent += one.tokens
                self._queues.move_to_end(request)
            queue.popleft()
            if not queue:
                del self._queues[request]
        self.tokens -= spent
        return batch
