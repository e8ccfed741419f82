"""What is in a folder, for comparing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_localhf.store.disk import formatted_size

if TYPE_CHECKING:
    from pathlib import Path


def files(folder: Path) -> dict[str, bytes]:
    """The files of a model below a folder: without its manifest, and without what the hub's library keeps there."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "localhf.json" and ".cache" not in path.relative_to(folder).parts
    }


def size(folder: Path) -> str:
    """The size of a model, for people."""
    return formatted_size(sum(map(len, files(folder).values())))
