"""Writes what was measured into the documentation: tables between two marks, plots, and every single figure.

Run by itself, it writes tables and plots anew from the figures that were measured last.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measures
import plots
import serving_report
from contestants import BASELINE, BF16, F32, FASTEMBED, GENERAL, INT8, TORCH
from marks import part, replaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from measures import Measure, Row

ROOT = Path(__file__).resolve().parents[1]
PAGE, FIGURES = "benchmarks.md", "benchmarks.json"
MARK, README_MARK = "written by `make bench`", "benchmarks"


def write(results: dict[str, Any], docs: Path, readme: Path | None = None) -> None:
    """Writes the tables into their places on the page and in the README, the plots, and the figures.

    Raises:
        SystemExit: The page or the README has no place for the table.
    """
    for path, name in ((docs / PAGE, MARK), (readme, README_MARK)):
        if path is not None:
            part(path, name)
    (docs / FIGURES).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name, drawing in drawings(results).items():
        (docs / name).write_text(drawing, encoding="utf-8")
    replaced(docs / PAGE, MARK, text(results))
    if readme is not None and "embeddings" in results:
        replaced(readme, README_MARK, short(results))


def short(results: dict[str, Any]) -> str:
    """The table of the README: who embeds, and the figures that users ask for first."""
    columns, rows = measures.embedding(results["settings"]), results["embeddings"]["contestants"]
    names = [name for name in (BASELINE, FASTEMBED, TORCH, F32, BF16, INT8) if name in rows]
    exact = [rows[name]["lowest_cosine"] for name in names if name != INT8]
    machine = f"{results['machine']['cores']} cores of an {results['machine']['processor']}"
    about = (
        f"all-MiniLM-L6-v2 on {machine}, {results['date']}; in brackets how many times better than {BASELINE}."
        f" The lowest cosine to the vectors of sentence-transformers is {min(exact):.5f} or more"
    )
    if INT8 in rows:
        about += f", with int8 {rows[INT8]['lowest_cosine']:.3f}"
    shown = {name: columns[name] for name in ("start", "mixed", "p50", "memory", "size")}
    return f"{_table({name: rows[name] for name in names}, shown)}\n\n{about}."


def drawings(results: dict[str, Any]) -> dict[str, str]:
    """The plots, by the names of their files."""
    drawn = {}
    if "embeddings" in results:
        columns, rows = measures.embedding(results["settings"]), results["embeddings"]["contestants"]
        drawn["benchmarks-embedding.svg"] = plots.bars(_panel("Chunks embedded in a second", columns["mixed"], rows))
        drawn["benchmarks-start.svg"] = plots.bars(
            _panel("Seconds until the first vector", columns["start"], rows),
            _panel("Memory at most, MB", columns["memory"], rows),
        )
    if "generation" in results:
        columns, rows = measures.generation(results["settings"]), results["generation"]
        drawn["benchmarks-generation.svg"] = plots.bars(
            _panel("Tokens written in a second, 32 prompts together", columns["batch"], rows),
            _panel("Milliseconds until the first token, after 400 words", columns["first"], rows),
        )
    return drawn


def _panel(title: str, measure: Measure, rows: dict[str, Row]) -> plots.Panel:
    bars = []
    for name, row in rows.items():
        value, mark = measure.value(row), "" if measure.is_steady(row) else "*"
        text = f"{value:,.{measure.digits}f}{mark}"
        bars.append(plots.Bar(name, value, text, ours=name.startswith("localhf")))
    unsteady = "" if all(map(measure.is_steady, rows.values())) else "; * unsteady"
    return plots.Panel(title, f"{measure.better} is better{unsteady}", bars)


def text(results: dict[str, Any]) -> str:
    """Everything that is written on the page, in Markdown."""
    settings, parts = results["settings"], [_machine(results)]
    if "embeddings" in results:
        rows, columns = results["embeddings"]["contestants"], measures.embedding(settings)
        parts += ["![How many chunks each embeds in a second](benchmarks-embedding.svg)"]
        parts += ["![How long each takes to its first vector, and how much memory](benchmarks-start.svg)"]
        parts += [_about_embeddings(settings), _table(rows, columns)]
        parts += ["How close the vectors are to those of sentence-transformers:", _table(rows, measures.CLOSENESS)]
        parts.append(_limit(results))
    if "generation" in results:
        parts += ["![How fast each writes text](benchmarks-generation.svg)"]
        parts += [_about_generation(settings), _table(results["generation"], measures.generation(settings))]
    parts += ["What was to be reached:", _targets(results), _versions(results)]
    return "\n\n".join(parts)


def _table(rows: dict[str, Row], columns: dict[str, Measure]) -> str:
    heads = [column.title for column in columns.values()]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, row in rows.items():
        cells = [column.cell(row, rows.get(BASELINE)) for column in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _machine(results: dict[str, Any]) -> str:
    facts = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    return (
        f"Measured on {results['date']}. Machine: {facts}.\n\n"
        f"In brackets: how many times better than {BASELINE}. {measures.UNSTEADY} The slowest round took"
        " over 1.3 times as long as the fastest: something else had the cores, or the library is unsteady."
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
    measure = measures.embedding(results["settings"])["long"]
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
    measure = measures.generation(results["settings"])["batch"]
    for name in (F32, GENERAL):
        if name in rows and BASELINE in rows:
            ratio = measure.ratio(rows[name], rows[BASELINE])
            found.append((f"tokens/s of a batch, {name}, times those of {BASELINE}", 3, ratio))
    return found


def _embedding_targets(results: dict[str, Any]) -> list[tuple[str, float, float]]:
    rows, columns = results["embeddings"]["contestants"], measures.embedding(results["settings"])
    ours = [name for name in (F32, BF16, INT8) if name in rows]
    found: list[tuple[str, float, float]] = []

    def times(measure: str, title: str, names: Sequence[str], other: str, wanted: float) -> None:
        present = [name for name in names if name in rows and other in rows]
        if present:
            least = min(columns[measure].ratio(rows[name], rows[other]) for name in present)
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


def main() -> None:
    """Writes everything anew from the figures."""
    docs = ROOT / "docs"
    write(json.loads((docs / FIGURES).read_text(encoding="utf-8")), docs, ROOT / "README.md")
    serving_report.write(docs)


if __name__ == "__main__":
    main()
