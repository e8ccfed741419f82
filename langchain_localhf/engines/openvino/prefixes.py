"""Which prompts must not begin together, as long as openvino-genai shares a part of its cache between them by mistake.

Its cache is made of blocks of tokens. The last block of an answer that is over is rarely full, and a prompt that goes
on from there continues it in place. Two prompts that do so in one step write over each other's tokens, and both answers
but the last are wrong (openvino-genai 2026.4; a test shows it). Once the first of them has begun, the block is its own.
"""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# More ends than a cache has room for.
_MAX_ENDS = 1 << 16


class Ends:
    """Where the answers ended whose tokens may still be in the cache."""

    def __init__(self) -> None:
        self._ends: dict[int, None] = {}

    def add(self, token_ids: Sequence[int]) -> None:
        """Remembers prompt and answer of a request that is over; the last token may not have been looked at."""
        for end in _starts(token_ids)[-2:]:
            self._ends[end] = None
        while len(self._ends) > _MAX_ENDS:
            del self._ends[next(iter(self._ends))]

    def within(self, token_ids: Sequence[int]) -> frozenset[int]:
        """The ends that a prompt goes on from. Prompts with one in common must not begin together."""
        return frozenset(start for start in _starts(token_ids) if start in self._ends)


def _starts(token_ids: Sequence[int]) -> list[int]:
    """A number for each start of the tokens, from one token to all of them."""
    return list(accumulate(token_ids, lambda start, token_id: hash((start, token_id)), initial=0))[1:]
