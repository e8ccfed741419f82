"""Tables of the documentation, each row of which is a test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parent.parent.parent / "docs" / "concepts"
Test = TypeVar("Test")


class Table:
    """The table under a heading of a page, and the tests of its rows.

    Args:
        page: The file's name in `docs/concepts`.
        heading: The heading of its section.
    """

    def __init__(self, page: str, heading: str) -> None:
        _, _, section = (DOCS / page).read_text(encoding="utf-8").partition(f"\n## {heading}\n")
        lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("|")]
        self.rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines[2:]]
        self.tested: list[tuple[str, ...]] = []

    def row(self, *cells: str) -> Callable[[Test], Test]:
        """Says which row a test proves, by its first cells."""

        def remember(test: Test) -> Test:
            self.tested.append(cells)
            return test

        return remember

    def check(self) -> None:
        """Checks that the rows and the tests are the same, in the same order, each once."""
        width = len(self.tested[0])
        assert [row[:width] for row in self.rows] == self.tested
