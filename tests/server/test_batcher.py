"""The batcher: everybody gets what is theirs, in turn, once, and never waits for ever."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_localhf.server.batcher import Batcher, Item
from langchain_localhf.server.failures import OverloadedError, UnavailableError
from langchain_localhf.server.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

PATIENCE_SECONDS = 10


class Model:
    """Computes the square of numbers, says what it computed together, and waits as long as it is held."""

    def __init__(self, *, bad: Sequence[int] = (), error: Callable[[int], BaseException] = ValueError) -> None:
        self.batches: list[list[int]] = []
        self.bad, self.error = set(bad), error
        self._released = threading.Event()
        self._released.set()

    def compute(self, numbers: Sequence[int]) -> list[int]:
        """The squares; fails for all of a batch where one number is bad."""
        self.batches.append(list(numbers))
        assert self._released.wait(PATIENCE_SECONDS)
        for number in numbers:
            if number in self.bad:
                raise self.error(number)
        return [number**2 for number in numbers]

    def hold(self) -> None:
        """From now on, batches do not end."""
        self._released.clear()

    def release(self) -> None:
        """Lets batches end."""
        self._released.set()

    @property
    def computed(self) -> list[int]:
        """All numbers that were computed, in their order."""
        return [number for batch in self.batches for number in batch]


def batcher(model: Model, **changes: Any) -> Batcher[int, int]:
    """A batcher for a model."""
    options: dict[str, Any] = {"batch_tokens": 100, "queue_tokens": 1000, "kept_results": 100} | changes
    return Batcher(model.compute, metrics=Metrics().of_model("numbers"), **options)


def items(*numbers: int, tokens: int = 1) -> list[Item[int]]:
    """Numbers as the batcher takes them."""
    return [Item(number, str(number).encode(), tokens) for number in numbers]


async def begun(model: Model, batches: int = 1) -> None:
    """Waits until so many batches were begun."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(model.batches) < batches:
        assert time.monotonic() < deadline, "nothing is computed"
        await asyncio.sleep(0.001)


async def started(coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Lets a request join the queue."""
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


REQUESTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 12), max_size=6),  # what is asked for
        st.integers(0, 3),  # how many turns of the loop later
        st.integers(0, 8) | st.none(),  # after how many turns the client leaves, if it does
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    requests=REQUESTS, bad=st.sets(st.integers(0, 12), max_size=3), budget=st.integers(1, 8), kept=st.integers(0, 20)
)
def test_each_gets_its_own(
    requests: list[tuple[list[int], int, int | None]], bad: set[int], budget: int, kept: int
) -> None:
    """Whatever arrives, leaves and fails, who stays gets the results of their own items, or an error of their own."""
    model = Model(bad=list(bad))

    async def ask(served: Batcher[int, int], numbers: list[int], delay: int, leaves: int | None) -> None:
        for _ in range(delay):
            await asyncio.sleep(0)
        task = asyncio.create_task(served.submit(items(*numbers, tokens=2)))
        if leaves is not None:
            for _ in range(leaves):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait({task})
        if task.cancelled():
            assert leaves is not None
        elif error := task.exception():
            assert isinstance(error, ValueError)
            assert error.args[0] in bad.intersection(numbers)
        else:
            assert task.result() == [number**2 for number in numbers]
            assert not bad.intersection(numbers)

    async def run() -> None:
        served = batcher(model, batch_tokens=budget, kept_results=kept)
        await asyncio.gather(*(ask(served, *request) for request in requests))
        await served.close()
        assert not served._pending
        assert served._turns.tokens == 0
        assert not served._turns._queues

    asyncio.run(run())
    assert all(len(batch) <= max(1, budget // 2) for batch in model.batches)
    if kept == 20 and not bad:
        assert max(Counter(model.computed).values(), default=1) == 1


async def test_fires_when_idle_and_gathers_while_busy() -> None:
    """An item that comes to a free model is computed at once; those that come meanwhile are computed together."""
    model = Model()
    model.hold()
    served = batcher(model)
    first = await started(served.submit(items(1)))
    await begun(model)
    others = [await started(served.submit(items(number))) for number in (2, 3, 4)]
    model.release()
    assert await asyncio.gather(first, *others) == [[1], [4], [9], [16]]
    assert model.batches == [[1], [2, 3, 4]]
    await served.close()


async def test_equal_items_are_computed_once() -> None:
    """An item in the queue, in the computation, or just computed gives everybody the very same result."""
    model = Model()
    model.hold()
    served = batcher(model)
    served._compute = lambda numbers: [[square] for square in model.compute(numbers)]  # type: ignore[misc]
    tasks = [await started(served.submit(items(1)))]
    await begun(model)
    tasks += [await started(served.submit(items(1, 2, 2))) for _ in range(3)]
    model.release()
    [[first], *others] = await asyncio.gather(*tasks)
    again = await served.submit(items(1, 2))
    assert {id(one) for other in others for one in other} == {id(one) for one in again}
    assert again[0] is first
    assert model.batches == [[1], [2]]
    await served.close()


async def test_oldest_results_are_forgotten() -> None:
    """Only the newest results are kept, and one that was asked for again counts as new."""
    model = Model()
    served = batcher(model, kept_results=2)
    for number in (1, 2, 1, 3, 1, 2):
        await served.submit(items(number))
    assert model.computed == [1, 2, 3, 2]
    await served.close()


async def test_token_budget() -> None:
    """A batch has no more tokens than the budget, whatever waits; a larger item has one to itself."""
    model = Model()
    model.hold()
    served = batcher(model, batch_tokens=10)
    first = await started(served.submit(items(0)))
    await begun(model)
    other = [*items(1, 2, tokens=4), *items(3, tokens=50), *items(4, 5, tokens=4)]
    rest = await started(served.submit(other))
    model.release()
    await asyncio.gather(first, rest)
    assert model.batches == [[0], [1, 2], [3], [4, 5]]
    await served.close()


async def test_query_behind_a_corpus() -> None:
    """Requests have their turns: a small one waits for one batch of a large one at most, also for what both want."""
    model = Model()
    model.hold()
    served = batcher(model, batch_tokens=10)
    corpus = await started(served.submit(items(*range(100))))
    await begun(model)
    query = await started(served.submit(items(1000)))
    shared = await started(served.submit(items(99)))
    model.release()
    await asyncio.gather(query, shared)
    assert {1000, 99} <= set(model.batches[1])
    await corpus
    assert Counter(model.computed) == Counter([*range(100), 1000])
    await served.close()


async def test_bounded_queue() -> None:
    """What does not fit into the queue is refused at once, and says when it may; a free model takes anything."""
    model = Model()
    model.hold()
    served = batcher(model, batch_tokens=10, queue_tokens=20)
    first = await started(served.submit(items(1, tokens=500)))
    await begun(model)
    fitting = await started(served.submit(items(2, 3, tokens=10)))
    start = time.perf_counter()
    with pytest.raises(OverloadedError) as refused:
        await served.submit(items(4))
    assert time.perf_counter() - start < 0.1
    assert 0 < refused.value.retry_after_seconds < 1
    equal = await started(served.submit(items(2)))  # costs nothing
    model.release()
    await asyncio.gather(first, fitting, equal)
    assert 4 not in model.computed
    assert await served.submit(items(4)) == [16]
    await served.close()


async def test_retry_after_is_what_the_model_takes() -> None:
    """The slower the model is, the later a refused client is told to come again."""
    times = []
    for seconds in (0.0, 0.05):
        model = Model()
        slow = batcher(model, batch_tokens=1, queue_tokens=50)
        slow._compute = lambda numbers, model=model, seconds=seconds: (time.sleep(seconds), model.compute(numbers))[1]  # type: ignore[misc]
        await slow.submit(items(*range(10)))
        model.hold()
        tasks = [await started(slow.submit(items(100)))]
        await begun(model, 11)
        tasks.append(await started(slow.submit(items(*range(200, 250)))))
        with pytest.raises(OverloadedError) as refused:
            await slow.submit(items(*range(300, 340)))
        times.append(refused.value.retry_after_seconds)
        for task in tasks:
            task.cancel()
        model.release()
        await slow.close()
    assert times[0] < times[1]


async def test_bad_item_fails_alone() -> None:
    """Of those who share a batch with a bad item, only who sent it gets the error, and then not the rest."""
    model = Model(bad=[3, 6])
    model.hold()
    served = batcher(model)
    tasks = [await started(served.submit(items(0)))]
    await begun(model)
    tasks += [await started(served.submit(items(*some))) for some in ((1, 2), (3, 4), (5,), (8, 6, 3))]
    model.release()
    first, good, bad, other, both = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, good, other) == ([0], [1, 4], [25])
    assert isinstance(bad, ValueError)
    assert bad.args == (3,)
    assert isinstance(both, ValueError)
    assert both.args == (6,)  # the first of its own
    assert await served.submit(items(4, 8)) == [16, 64]
    await served.close()


async def test_who_left_is_not_computed() -> None:
    """What nobody waits for any more leaves the queue and its bound at once; what others want, too, stays."""
    model = Model()
    model.hold()
    served = batcher(model, batch_tokens=10, queue_tokens=20)
    first = await started(served.submit(items(1)))
    await begun(model)
    leaving = await started(served.submit(items(2, 3, 4, 5, tokens=5)))
    staying = await started(served.submit(items(3, tokens=5)))
    leaving.cancel()
    await asyncio.sleep(0)
    assert served._turns.tokens == 5
    late = await started(served.submit(items(6, tokens=15)))
    model.release()
    assert await asyncio.gather(first, staying, late) == [[1], [9], [36]]
    assert sorted(model.computed) == [1, 3, 6]
    await served.close()


async def test_who_leaves_while_it_is_computed() -> None:
    """A computation that has begun goes on without its client, and serves whoever asks for the same."""
    model = Model()
    model.hold()
    served = batcher(model)
    leaving = await started(served.submit(items(7)))
    await begun(model)
    leaving.cancel()
    await asyncio.sleep(0)
    staying = await started(served.submit(items(7)))
    model.release()
    assert await staying == [49]
    assert model.batches == [[7]]
    await served.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, StopIteration, type("Panic", (BaseException,), {})])
async def test_panic(error: type[BaseException], caplog: pytest.LogCaptureFixture) -> None:
    """What would end the event loop becomes an error of the one client; the others, and the next, are served."""
    model = Model(bad=[2], error=error)
    model.hold()
    served = batcher(model)
    tasks = [await started(served.submit(items(0)))]
    await begun(model)
    tasks += [await started(served.submit(items(number))) for number in (1, 2, 3)]
    model.release()
    first, good, bad, other = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, good, other) == ([0], [1], [9])
    assert isinstance(bad, UnavailableError)
    assert await served.submit(items(4)) == [16]
    assert [record.getMessage() for record in caplog.records] == ["a model broke"]
    await served.close()


@pytest.mark.parametrize("breaks", ["thread", "results"])
async def test_broken_worker(breaks: str, caplog: pytest.LogCaptureFixture) -> None:
    """Where the worker itself breaks, everybody who waits is told so, and the next request starts it anew."""
    model = Model()
    model.hold()
    served = batcher(model, batch_tokens=1)
    tasks = [await started(served.submit(items(1)))]
    await begun(model)
    tasks += [await started(served.submit(items(number))) for number in (2, 3)]
    if breaks == "thread":
        served._thread.shutdown(wait=False)
    else:
        compute, served._compute = served._compute, lambda _: []
    model.release()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_SECONDS)
    assert [type(outcome) for outcome in outcomes[1:]] == [UnavailableError, UnavailableError]
    if breaks == "results":
        served._compute = compute
    assert await served.submit(items(2, 3)) == [4, 9]
    assert [record.getMessage() for record in caplog.records] == ["the worker of a model broke"]
    await served.close()


async def test_close() -> None:
    """What was accepted is computed, and nothing more is taken."""
    model = Model()
    model.hold()
    served = batcher(model, batch_tokens=1)
    tasks = [await started(served.submit(items(number))) for number in (1, 2, 3)]
    closing = await started(served.close())
    with pytest.raises(UnavailableError):
        await served.submit(items(4))
    model.release()
    await closing
    assert await asyncio.gather(*tasks) == [[1], [4], [9]]
    assert not served._thread._threads or not any(thread.is_alive() for thread in served._thread._threads)


def test_several_event_loops() -> None:
    """A loop that ends in the middle leaves nothing behind that the next one stumbles over."""
    model = Model()
    served = batcher(model)
    model.hold()

    async def left_behind() -> None:
        await started(served.submit(items(1)))
        await started(served.submit(items(2)))
        await begun(model)

    asyncio.run(left_behind())
    model.release()
    gc.collect()
    assert asyncio.run(served.submit(items(1, 2))) == [1, 4]
    asyncio.run(served.close())


async def test_metrics() -> None:
    """The numbers say what waits now, and what was computed and refused."""
    metrics, model = Metrics(), Model()
    model.hold()
    served = Batcher(
        model.compute, batch_tokens=10, queue_tokens=10, kept_results=0, metrics=metrics.of_model("numbers")
    )
    first = await started(served.submit(items(1, tokens=3)))
    await begun(model)
    second = await started(served.submit(items(2, 3, tokens=4)))
    with pytest.raises(OverloadedError):
        await served.submit(items(4, tokens=3))
    assert 'localhf_queue_tokens{model="numbers"} 8.0' in metrics.text().decode()
    model.release()
    await asyncio.gather(first, second)
    text = metrics.text().decode()
    for line in (
        "queue_tokens{model=",
        "refused_total{model=",
        "batch_items_sum{model=",
        "computed_tokens_total{model=",
    ):
        assert f"localhf_{line}" in text
    numbers = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(numbers['localhf_queue_tokens{model="numbers"}']) == 0
    assert float(numbers['localhf_refused_total{model="numbers"}']) == 1
    assert float(numbers['localhf_batch_items_sum{model="numbers"}']) == 3
    assert float(numbers['localhf_computed_tokens_total{model="numbers"}']) == 11
    await served.close()
