"""Which texts go through the model together."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from langchain_localhf.engines.batching import batches

COUNTS = st.lists(st.integers(min_value=0, max_value=300), max_size=200)


@given(COUNTS, st.integers(1, 3000), st.integers(1, 70))
def test_every_text_comes_once_and_no_batch_is_too_large(counts: list[int], budget: int, rows: int) -> None:
    """A batch keeps both limits, padding included; only a text that is too long for the budget has one to itself."""
    found = list(batches(counts, token_budget=budget, max_rows=rows))
    assert sorted(index for batch in found for index in batch) == list(range(len(counts)))
    for batch in found:
        assert 1 <= len(batch) <= rows
        assert len(batch) == 1 or len(batch) * max(counts[index] for index in batch) <= budget


@given(COUNTS)
def test_the_longest_come_first(counts: list[int]) -> None:
    """So that a model that does not fit into the memory fails at once, and the rest of a bar is faster, not slower."""
    order = [counts[index] for batch in batches(counts) for index in batch]
    assert order == sorted(counts, reverse=True)
