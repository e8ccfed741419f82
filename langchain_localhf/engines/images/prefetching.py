"""Work that is done in a few threads ahead of the one who needs it, and never far ahead."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# Pillow lets other threads run while it decodes. Each thread may hold a decoded picture of the greatest size.
_MAX_THREADS = 4


def prefetched(items: Iterable[_Item], work: Callable[[_Item], _Result], *, batch_size: int) -> Iterator[list[_Result]]:
    """What the work makes of the items, in their order, in batches; the next batch is made while one is used.

    Args:
        items: Read as they are needed.
        work: Called in several threads at once.
        batch_size: How many results come together.

    Raises:
        Exception: What the work raised for the first item for which it raised anything.
    """
    remaining = iter(items)
    pending: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1), thread_name_prefix="localhf-images") as pool:
        try:
            while True:
                pending.extend(pool.submit(work, item) for item in islice(remaining, 2 * batch_size - len(pending)))
                if not pending:
                    return
                yield [pending.popleft().result() for _ in range(min(batch_size, len(pending)))]
        finally:
            for future in pending:
                future.cancel()
