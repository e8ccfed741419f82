"""What `serving.py` measured, as a table and a plot of the docs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import plots
from marks import replaced

if TYPE_CHECKING:
    from pathlib import Path

PAGE, FIGURES, PLOT, MARK = "benchmarks.md", "serving.json", "benchmarks-serving.svg", "serving"


def write(docs: Path) -> None:
    """Writes the table and the plot of the figures that were measured last.

    Raises:
        SystemExit: The page has no place for the table.
    """
    results = json.loads((docs / FIGURES).read_text(encoding="utf-8"))
    replaced(docs / PAGE, MARK, text(results))
    (docs / PLOT).write_text(drawing(results), encoding="utf-8")


def text(results: dict[str, Any]) -> str:
    """The plot and the table."""
    many = results["clients"]
    heads = ["texts", "engine", "one client, texts/s", f"{many} clients, texts/s", "ratio", "without a pause, texts/s"]
    heads += ["reply p50 / p99, ms", "health p99, ms"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in results["rows"]]
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    about = f"Measured on {results['date']}. Machine: {machine}."
    plot = f"![Texts embedded in a second, for one client and for {many}]({PLOT})"
    return "\n\n".join([plot, "\n".join(lines), about])


def _cells(row: dict[str, Any]) -> list[str]:
    cells = [row["texts"], row["engine"], f"{row['one']:.0f}", f"{row['many']:.0f}", f"{row['many'] / row['one']:.1f}"]
    if row["steady"] is None:
        return [*cells, *["not measured"] * 3]
    replies = f"{row['reply_p50']:.0f} / {row['reply_p99']:.0f}"
    return [*cells, f"{row['steady']:.0f}", replies, f"{row['health_p99']:.1f}"]


def drawing(results: dict[str, Any]) -> str:
    """Two bars for each kind of texts and engine."""
    panels = []
    for kind in dict.fromkeys(row["texts"] for row in results["rows"]):
        found = []
        for row in (row for row in results["rows"] if row["texts"] == kind):
            found.append(plots.Bar(f"{row['engine']}, one client", row["one"], f"{row['one']:.0f}", ours=False))
            name = f"{row['engine']}, {results['clients']} clients"
            found.append(plots.Bar(name, row["many"], f"{row['many']:.0f}", ours=True))
        panels.append(plots.Panel(f"Texts a second: {kind}", "more is better", found))
    return plots.bars(*panels)
