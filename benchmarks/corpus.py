"""Real text for the benchmark: this repository's documentation, an address of state, and Python's own reference.

The same texts come in the same order wherever the repository and the version of Python are the same.
"""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
LONG = 741
_WRITTEN_BY_PROGRAMS = ("benchmarks.md", "comparison.md")
# As text splitters leave them: full chunks, last pieces of sections, headings and lists.
_LENGTHS = [*[(500, 1500)] * 5, *[(120, 500)] * 4, *[(20, 120)] * 3]


def _words() -> Iterator[str]:
    files = [
        ROOT / "README.md",
        *sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name not in _WRITTEN_BY_PROGRAMS),
        *sorted((ROOT / "examples" / "state_of_the_union").glob("*.txt")),
    ]
    for path in files:
        yield from path.read_text(encoding="utf-8").split()
    for _, text in sorted(topics.items()):
        yield from text.split()


def _chunk(words: Iterator[str], length: int) -> str:
    """Words for at most so many characters, and at least one word."""
    chunk = next(words)
    for word in words:
        if len(chunk) + 1 + len(word) > length:
            break
        chunk += " " + word
    return chunk


def mixed(chunks: int, calibration: int) -> tuple[list[str], list[str]]:
    """Chunks of up to 1,500 characters in no order, and other ones to calibrate with."""
    words, source = _words(), random.Random(20)  # noqa: S311 - no secret
    texts = [_chunk(words, source.randint(*source.choice(_LENGTHS))) for _ in range(chunks + calibration)]
    source.shuffle(texts)
    return texts[:chunks], texts[chunks:]


def long(chunks: int) -> list[str]:
    """Chunks of about 741 characters."""
    words = _words()
    return [_chunk(words, LONG) for _ in range(chunks)]


def prompts(batches: int, size: int) -> list[list[str]]:
    """Batches of prompts of 5 to 150 words; none twice, so that no cache of prefixes helps."""
    words, source = _words(), random.Random(4)  # noqa: S311 - no secret
    return [[" ".join(islice(words, source.choice((5, 12, 30, 60, 150)))) for _ in range(size)] for _ in range(batches)]


def long_prompts(count: int) -> list[str]:
    """Prompts of 400 words; none twice."""
    words = _words()
    return [" ".join(islice(words, 400)) for _ in range(count)]


def queries(count: int) -> list[str]:
    """Texts as short as questions."""
    words, source = _words(), random.Random(21)  # noqa: S311 - no secret
    return [_chunk(words, source.randint(20, 120)) for _ in range(count)]
