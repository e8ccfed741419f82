"""What the tables say of a contestant: a value, how many times better than another one it is, and if it is steady."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from side_by_side import is_steady

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = dict[str, Any]

UNSTEADY = "\\*"


@dataclass(frozen=True)
class Measure:
    """A column of a table.

    Attributes:
        title: Its head, with the unit.
        value: The value of a row.
        better: Whether `more` or `less` is better, for the ratio to the baseline; empty for no ratio.
        rounds: The figure whose rounds tell whether the value is steady; empty if it is measured once.
        digits: How many digits after the point.
    """

    title: str
    value: Callable[[Row], float]
    better: str = ""
    rounds: str = ""
    digits: int = 0

    def ratio(self, row: Row, other: Row) -> float:
        """How many times better a row is than another one."""
        one, two = self.value(row), self.value(other)
        return one / two if self.better == "more" else two / one

    def cell(self, row: Row, baseline: Row | None) -> str:
        """The value, the ratio to the baseline, and a mark if the rounds disagree."""
        text = f"{self.value(row):,.{self.digits}f}"
        if self.better and baseline is not None and baseline is not row:
            text += f" ({self.ratio(row, baseline):.1f})"
        return text if self.is_steady(row) else text + UNSTEADY

    def is_steady(self, row: Row) -> bool:
        """Whether the rounds agree."""
        return not self.rounds or is_steady(row[self.rounds])


def _median(name: str, scale: float = 1.0) -> Callable[[Row], float]:
    return lambda row: scale * statistics.median(row[name])


def _a_second(name: str, count: float) -> Callable[[Row], float]:
    return lambda row: count / statistics.median(row[name])


def embedding(settings: dict[str, Any]) -> dict[str, Measure]:
    """What is measured of those who embed."""
    return {
        "start": Measure("first vector, s", _median("starts"), "less", "starts", 2),
        "mixed": Measure("mixed chunks/s", _a_second("mixed", settings["chunks"]), "more", "mixed", 1),
        "long": Measure("long chunks/s", _a_second("long", settings["long_chunks"]), "more", "long", 1),
        "p50": Measure("query p50, ms", _median("query_p50", 1e3), "less", "query_p50", 1),
        "p95": Measure("query p95, ms", _median("query_p95", 1e3), "less", "query_p95", 1),
        "memory": Measure("memory, MB", lambda row: row["memory"], "less"),
        "size": Measure("installed, MB", lambda row: row["size"], "less"),
    }


CLOSENESS = {
    "cosine": Measure("lowest cosine", lambda row: row["lowest_cosine"], digits=7),
    "kept": Measure("neighbours kept, %", lambda row: 100 * row["neighbours_kept"], digits=1),
}


def generation(settings: dict[str, Any]) -> dict[str, Measure]:
    """What is measured of those who generate text."""
    tokens = settings["prompts"] * settings["new_tokens"]
    return {
        "batch": Measure("tokens/s", _a_second("batch", tokens), "more", "batch", 1),
        "first": Measure("first token, ms", _median("first_token", 1e3), "less", "first_token"),
        "memory": Measure("memory, MB", lambda row: row["memory"], "less"),
        "same": Measure("same answers, %", lambda row: 100 * row["same_answers"]),
    }
