"""Which texts go through the model together.

A batch is padded to its longest text, and every padded place costs as much as a word. sentence-transformers sorts by
the number of characters and takes 32 texts at a time, whatever their length; sorting by tokens, and cutting where the
padding would cost more than another batch, saves a tenth of a corpus's time on a CPU (docs/benchmarks.md), and up
to a half of that of some dozens of unlike texts. Which texts share a batch moves no vector beyond rounding.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Measured on two cores with all-MiniLM-L6-v2: fewer tokens leave the cores waiting for Python, more leave their caches.
TOKEN_BUDGET = 2048
MAX_ROWS = 64
# Starting a batch takes as long as so many tokens; on the same machine, also with torch.
BATCH_TOKENS = 40


def batches(
    token_counts: Sequence[int], *, token_budget: int = TOKEN_BUDGET, max_rows: int = MAX_ROWS
) -> Iterator[list[int]]:
    """Cuts texts into batches of like length, the longest first, so that as little as possible is computed in vain.

    Args:
        token_counts: How many tokens each text has.
        token_budget: How many tokens a batch may have, padding included; a longer text has a batch to itself.
        max_rows: How many texts a batch may have.

    Yields:
        The indices of the texts of one batch; every index comes once.
    """
    order = sorted(range(len(token_counts)), key=lambda index: -token_counts[index])
    lengths = [max(1, token_counts[index]) for index in order]
    # Of the first texts, by how many they are: what they cost at least, and where their last batch begins.
    costs, begins = [0], [0]
    for end in range(1, len(order) + 1):
        best, begin = costs[end - 1] + lengths[end - 1], end - 1
        for start in range(end - 2, max(-1, end - 1 - max_rows), -1):
            tokens = (end - start) * lengths[start]
            if tokens > token_budget:
                break
            if costs[start] + tokens < best:
                best, begin = costs[start] + tokens, start
        costs.append(best + BATCH_TOKENS)
        begins.append(begin)
    ends = [len(order)]
    while ends[-1]:
        ends.append(begins[ends[-1]])
    for end, start in reversed(list(pairwise(ends))):
        yield order[start:end]
