"""Which texts go through the model together."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from langchain_localhf.engines.batching import BATCH_TOKENS, MAX_ROWS, TOKEN_BUDGET, batches

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


@given(COUNTS)
def test_unlike_texts_are_not_padded_to_each_other(counts: list[int]) -> None:
    """No batch costs less in two parts, and none costs less together with the next one."""
    found = [[max(1, counts[index]) for index in batch] for batch in batches(counts)]
    for batch in found:
        for cut in range(1, len(batch)):
            assert len(batch) * batch[0] <= cut * batch[0] + (len(batch) - cut) * batch[cut] + BATCH_TOKENS
    for batch, following in pairwise(found):
        together = (len(batch) + len(following)) * batch[0]
        if together <= TOKEN_BUDGET and len(batch) + len(following) <= MAX_ROWS:
            assert len(batch) * batch[0] + len(following) * following[0] + BATCH_TOKENS <= together
