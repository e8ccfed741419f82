"""Writes what was measured into the documentation: a table between two marks, a plot, and every single figure."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from contestants import BASELINE, BF16, F32, FASTEMBED, GENERAL, INT8
from side_by_side import is_steady

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    Row = dict[str, Any]

PAGE, PLOT, FIGURES = "benchmarks.md", "benchmarks.svg", "benchmarks.json"
BEGIN, END = "<!-- written by `make bench`: begin -->", "<!-- written by `make bench`: end -->"
_UNSTEADY = "\\*"


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
        return text if not self.rounds or is_steady(row[self.rounds]) else text + _UNSTEADY


def _median(name: str, scale: float = 1.0) -> Callable[[Row], float]:
    return lambda row: scale * statistics.median(row[name])


def _a_second(name: str, count: float) -> Callable[[Row], float]:
    return lambda row: count / statistics.median(row[name])


def _embedding_measures(settings: dict[str, Any]) -> dict[str, Measure]:
    return {
        "start": Measure("first vector, s", _median("starts"), "less", "starts", 2),
        "mixed": Measure("mixed chunks/s", _a_second("mixed", settings["chunks"]), "more", "mixed", 1),
        "long": Measure("long chunks/s", _a_second("long", settings["long_chunks"]), "more", "long", 1),
        "p50": Measure("query p50, ms", _median("query_p50", 1e3), "less", "query_p50", 1),
        "p95": Measure("query p95, ms", _median("query_p95", 1e3), "less", "query_p95", 1),
        "memory": Measure("memory, MB", lambda row: row["memory"], "less"),
        "size": Measure("installed, MB", lambda row: row["size"], "less"),
    }


_CLOSENESS = {
    "cosine": Measure("lowest cosine", lambda row: row["lowest_cosine"], digits=7),
    "kept": Measure("neighbours kept, %", lambda row: 100 * row["neighbours_kept"], digits=1),
}


def _generation_measures(settings: dict[str, Any]) -> dict[str, Measure]:
    tokens = settings["prompts"] * settings["new_tokens"]
    return {
        "batch": Measure("tokens/s", _a_second("batch", tokens), "more", "batch", 1),
        "first": Measure("first token, ms", _median("first_token", 1e3), "less", "first_token"),
        "memory": Measure("memory, MB", lambda row: row["memory"], "less"),
        "same": Measure("same answers, %", lambda row: 100 * row["same_answers"]),
    }


def write(results: dict[str, Any], docs: Path) -> None:
    """Writes the table into its place on the page, the plot, and the figures.

    Raises:
        SystemExit: The page has no place for the table.
    """
    page = docs / PAGE
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page} has no place for the table: it needs the lines {BEGIN} and {END}")
    (docs / FIGURES).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    plot(results, docs / PLOT)
    page.write_text(f"{before}{BEGIN}\n\n{text(results)}\n\n{END}{after}", encoding="utf-8")


def text(results: dict[str, Any]) -> str:
    """Everything that is written on the page, in Markdown."""
    settings, parts = results["settings"], [_machine(results), f"![The figures as bars]({PLOT})"]
    if "embeddings" in results:
        rows, measures = results["embeddings"]["contestants"], _embedding_measures(settings)
        parts += [_about_embeddings(settings), _table(rows, measures)]
        parts += ["How close the vectors are to those of sentence-transformers:", _table(rows, _CLOSENESS)]
        parts.append(_limit(results))
    if "generation" in results:
        parts += [_about_generation(settings), _table(results["generation"], _generation_measures(settings))]
    parts += ["What was to be reached:", _targets(results), _versions(results)]
    return "\n\n".join(parts)


def _table(rows: dict[str, Row], measures: dict[str, Measure]) -> str:
    columns = list(measures.values())
    lines = ["| | " + " | ".join(column.title for column in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(one.cell(row, rows.get(BASELINE)) for one in columns) + " |")
    return "\n".join(lines)


def _machine(results: dict[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    return (
        f"Measured on {results['date']}. Machine: {facts}.\n\n"
        f"In brackets: how many times better than {BASELINE}. {_UNSTEADY} The slowest round took over 1.3 times as long"
        " as the fastest: something else had the cores, or the library is unsteady."
    )


def _about_embeddings(settings: dict[str, Any]) -> str:
    return (
        f"Embedding, with all-MiniLM-L6-v2: {settings['starts']} starts of a process until its first vector,"
        f" {settings['chunks']:,} chunks of up to 1,500 characters, {settings['long_chunks']:,} of 741,"
        f" {settings['queries']} queries one after the other; medians of {settings['rounds']} rounds. Memory is the"
        " most that the process held until the mixed chunks were embedded; installed is the whole environment."
    )


def _about_generation(settings: dict[str, Any]) -> str:
    return (
        f"Generating, with a model of the shape of SmolLM2-135M and random weights: {settings['prompts']} prompts of 5"
        f" to 150 words, {settings['new_tokens']} new tokens each, greedy; the first token of a stream behind 400"
        " words. OpenVINO runs the same folder, exported by optimum-cli, in both packages; where no precision is named"
        " it is OpenVINO's own choice."
    )


def limit(results: dict[str, Any], name: str) -> float:
    """What part of the machine's limit a contestant reaches with the long chunks, in percent."""
    found, precision = results["embeddings"]["limit"], name.rpartition(" ")[2]
    measure = _embedding_measures(results["settings"])["long"]
    rate = measure.value(results["embeddings"]["contestants"][name])
    return float(100 * rate * found["operations"] / found["rates"][precision])


def _limit(results: dict[str, Any]) -> str:
    found = results["embeddings"]["limit"]
    rates = ", ".join(
        f"{rate / 1e9:,.0f} GFLOP/s in {precision}, {rate / found['operations']:.0f} chunks/s"
        for precision, rate in found["rates"].items()
    )
    return (
        "The limit of the machine: matrix products of the model's shapes, and nothing else, reach at best"
        f" {rates}; a long chunk takes {found['operations'] / 1e9:.2f} GFLOP of them."
    )


def _targets(results: dict[str, Any]) -> str:
    lines = ["| | at least | measured | |", "|---|---|---|---|"]
    for title, wanted, measured in targets(results):
        lines.append(f"| {title} | {wanted:g} | {measured:.{_digits(wanted)}f} | {_verdict(measured >= wanted)} |")
    return "\n".join(lines)


def _digits(wanted: float) -> int:
    return max(1, len(f"{wanted:g}".partition(".")[2]) + 1)


def _verdict(reached: bool) -> str:  # noqa: FBT001 - private
    return "reached" if reached else "**not reached**"


def targets(results: dict[str, Any]) -> list[tuple[str, float, float]]:
    """What the project set out to reach: its name, how much at least, and what was measured."""
    found: list[tuple[str, float, float]] = []
    if "embeddings" in results:
        found += _embedding_targets(results)
    rows = results.get("generation", {})
    measure = _generation_measures(results["settings"])["batch"]
    for name in (F32, GENERAL):
        if name in rows and BASELINE in rows:
            ratio = measure.ratio(rows[name], rows[BASELINE])
            found.append((f"tokens/s of a batch, {name}, times those of {BASELINE}", 3, ratio))
    return found


def _embedding_targets(results: dict[str, Any]) -> list[tuple[str, float, float]]:
    rows, measures = results["embeddings"]["contestants"], _embedding_measures(results["settings"])
    ours = [name for name in (F32, BF16, INT8) if name in rows]
    found: list[tuple[str, float, float]] = []

    def times(measure: str, title: str, names: Sequence[str], other: str, wanted: float) -> None:
        present = [name for name in names if name in rows and other in rows]
        if present:
            least = min(measures[measure].ratio(rows[name], rows[other]) for name in present)
            whose = present[0] if len(present) == 1 else "the least of ours on OpenVINO"
            found.append((f"{title}, {whose}, times better than {other}", wanted, least))

    times("start", "first vector", ours, BASELINE, 12)
    times("start", "first vector", ours, FASTEMBED, 1)
    times("memory", "memory", ours, BASELINE, 2)
    for name, wanted in ((F32, 1.5), (BF16, 2.8), (INT8, 3.6)):
        times("mixed", "mixed chunks/s", [name], BASELINE, wanted)
    times("mixed", "mixed chunks/s", [BF16], FASTEMBED, 4)
    times("p50", "query p50", ours, BASELINE, 3)
    for name, cosine in ((F32, 0.99999), (BF16, 0.9995)):
        if name in rows:
            found.append((f"percent of the machine's limit, {name}", 75, limit(results, name)))
            found.append((f"lowest cosine, {name}", cosine, rows[name]["lowest_cosine"]))
    return found


def _versions(results: dict[str, Any]) -> str:
    rows = results.get("embeddings", {}).get("contestants", {}) | results.get("generation", {})
    users: dict[str, list[str]] = {}
    for name, row in rows.items():
        libraries = ", ".join(f"{library} {number}" for library, number in row["versions"].items())
        users.setdefault(libraries, []).append(name)
    return "Versions:\n\n" + "\n".join(f"- {'; '.join(names)}: {libraries}" for libraries, names in users.items())


def plot(results: dict[str, Any], path: Path) -> None:
    """The figures that matter most, as bars."""
    import matplotlib as mpl  # noqa: PLC0415 - only for the plot

    mpl.use("svg")
    mpl.rcParams |= {"svg.hashsalt": "localhf", "svg.fonttype": "none", "font.size": 9}
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after its settings

    panels = []
    if "embeddings" in results:
        measures = _embedding_measures(results["settings"])
        rows = results["embeddings"]["contestants"]
        panels += [(measures[name], rows) for name in ("start", "mixed", "p50", "memory")]
    if "generation" in results:
        measures = _generation_measures(results["settings"])
        panels += [(measures[name], results["generation"]) for name in ("batch", "first")]
    figure, axes = plt.subplots((len(panels) + 1) // 2, 2, figsize=(10, 1.2 + 1.1 * len(panels)), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (measure, rows) in zip(axes.flat, panels, strict=False):
        colours = ["#2a7f62" if name.startswith("localhf") else "#9aa5b1" for name in rows]
        bars = axis.barh(list(rows), [measure.value(row) for row in rows.values()], color=colours)
        axis.bar_label(bars, fmt=f"{{:,.{measure.digits}f}}", padding=3)
        axis.set_title(f"{measure.title} ({measure.better} is better)", loc="left", fontsize=9)
        axis.invert_yaxis()
        axis.margins(x=0.15)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
