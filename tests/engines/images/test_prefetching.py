"""Work ahead of the one who needs it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from langchain_localhf.engines.images import prefetched

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9])
def test_batches_in_order(count: int) -> None:
    """Every result once, in the order of the items, although some take longer."""

    def work(item: int) -> int:
        time.sleep(0.002 * (item % 3))
        return item * item

    batches = list(prefetched(range(count), work, batch_size=4))
    assert [result for batch in batches for result in batch] == [item * item for item in range(count)]
    assert all(len(batch) == 4 for batch in batches[:-1])
    assert all(batches)


def test_never_far_ahead() -> None:
    """Items are read as they are needed: two batches at most beyond what was used."""
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for item in range(1000):
            read += 1
            yield item

    used = 0
    for batch in prefetched(items(), lambda item: item, batch_size=5):
        assert read <= used + 10
        used += len(batch)
    assert used == 1000


def test_in_threads() -> None:
    """The next batch is worked on while this one is used."""
    started = threading.Event()

    def work(item: int) -> int:
        if item == 2:
            started.set()
        return item

    batches = prefetched(range(4), work, batch_size=2)
    next(batches)
    assert started.wait(5)
    assert list(batches) == [[2, 3]]


def test_first_error() -> None:
    """What went wrong first, by the order of the items, and no more work is begun."""
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            time.sleep(0.05)
        if item >= 3:
            raise ValueError(item)
        return item

    with pytest.raises(ValueError, match=r"^3$"):
        list(prefetched(range(10_000), work, batch_size=8))
    assert len(begun) <= 16


def test_left_early() -> None:
    """Who stops in the middle leaves no thread behind."""
    batches = prefetched(range(100), lambda item: item, batch_size=4)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("localhf-images")]
