"""Pages that programs write a part of, between two marks; what stands around it stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def marks(name: str) -> tuple[str, str]:
    """What a part begins and ends with."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def part(path: Path, name: str) -> str:
    """What stands between the marks.

    Raises:
        SystemExit: The page has no place for it.
    """
    return _parted(path, name)[1].strip()


def replaced(path: Path, name: str, text: str) -> None:
    """Writes a part anew.

    Raises:
        SystemExit: The page has no place for it.
    """
    begin, end = marks(name)
    before, _, after = _parted(path, name)
    path.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")


def _parted(path: Path, name: str) -> tuple[str, str, str]:
    begin, end = marks(name)
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    middle, closed, after = rest.partition(end)
    if not found or not closed:
        raise SystemExit(f"{path} has no place for the table: it needs the lines {begin} and {end}")
    return before, middle, after
