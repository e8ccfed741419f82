"""Which texts go through the model together.

A batch is padded to its longest text, and every padded place costs as much as a word. sentence-transformers sorts by
the number of characters and takes 32 texts at a time, whatever their length; sorting by tokens, and giving every batch
about as many tokens, saves a tenth of the time on a CPU, and more where lengths differ much (docs/benchmarks.md). Which
texts share a batch moves no vector beyond rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Measured on two cores with all-MiniLM-L6-v2: fewer tokens leave the cores waiting for Python, more leave their caches.
TOKEN_BUDGET = 2048
MAX_ROWS = 64


def batches(
    token_counts: Sequence[int], *, token_budget: int = TOKEN_BUDGET, max_rows: int = MAX_ROWS
) -> Iterator[list[int]]:
    """Cuts texts into batches of like length, the longest first.

    Args:
        token_counts: How many tokens each text has.
        token_budget: How many tokens a batch may have, padding included; a longer text has a batch to itself.
        max_rows: How many texts a batch may have.

    Yields:
        The indices of the texts of one batch; every index comes once.
    """
    order = sorted(range(len(token_counts)), key=lambda index: -token_counts[index])
    start = 0
    while start < len(order):
        longest = max(1, token_counts[order[start]])
        rows = max(1, min(max_rows, token_budget // longest))
        yield order[start : start + rows]
        start += rows
