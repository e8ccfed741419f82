"""Writes what was found about this package and its peers: a page, and a short table for the README."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from feature_rows import GROUPS, ROWS, TEI, TEI_COMMIT, TEI_DATE, Row
from marks import replaced

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PAGE, EVIDENCE, MARK = "docs/concepts/comparison.md", "comparison.json", "comparison"


def write(results: dict[str, Any], root: Path) -> None:
    """Writes the page's tables and evidence, and the README's table.

    Raises:
        SystemExit: One of them has no place for it.
    """
    for path, text in ((root / PAGE, page(results)), (root / "README.md", short(results))):
        replaced(path, MARK, text)


def short(results: dict[str, Any]) -> str:
    """The most telling rows."""
    return table(results, "", (row for row in ROWS if row.telling))


def page(results: dict[str, Any]) -> str:
    """All rows, and what was seen."""
    parts = [_about(results)]
    parts += [table(results, title, rows) for title, rows in GROUPS.items()]
    parts.append("## What was run, and what happened")
    parts += [_evidence(results, row) for row in ROWS]
    return "\n\n".join(parts)


def table(results: dict[str, Any], title: str, rows: Iterable[Row]) -> str:
    """Rows of cells."""
    packages = results["packages"]
    names = [f"{name} {found['versions'][name]}" for name, found in packages.items()]
    names[0] = next(iter(packages))  # ours is the one at hand
    lines = ["| " + " | ".join([title, *names, f"{TEI}, by its source"]) + " |", "|---" * (len(names) + 2) + "|"]
    for row in rows:
        cells = [found["found"][row.name]["cell"] for found in packages.values()]
        lines.append("| " + " | ".join([row.title, *cells, row.tei]) + " |")
    return "\n".join(lines)


def _about(results: dict[str, Any]) -> str:
    libraries = [
        f"{name} with {', '.join(f'{one} {number}' for one, number in found['versions'].items() if one != name)}"
        for name, found in results["packages"].items()
    ]
    return (
        f"Run on {results['date']}: {'; '.join(libraries)}. The last column is not run: it is read in the source of"
        f" {TEI} at commit {TEI_COMMIT[:7]} of {TEI_DATE}."
    )


def _evidence(results: dict[str, Any], row: Row) -> str:
    seen = [
        f"- {name}: **{found['found'][row.name]['cell']}**. {_plain(found['found'][row.name]['seen'])}"
        for name, found in results["packages"].items()
    ]
    read = f"- {TEI}: **{row.tei}**. {row.why[0].upper()}{row.why[1:]}: {row.links}"
    title = f"{row.title[0].upper()}{row.title[1:]}"
    return "\n".join([f"**{title}.** {row.tried}", "", *seen, read])


def _plain(text: str) -> str:
    """What was seen, as code where it is a message, so that Markdown leaves it alone."""
    return f"`{text.replace('`', chr(39))}`"
