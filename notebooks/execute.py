"""Runs notebooks in place, each from its own folder, and writes their outputs; without arguments, all of them."""

from __future__ import annotations

import asyncio
import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat

if TYPE_CHECKING:
    from nbformat import NotebookNode

HERE = Path(__file__).parent


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """The outputs, with all that was written to one stream in a row as one; where it was cut is chance."""
    whole: list[NotebookNode] = []
    for output in outputs:
        if whole and output.output_type == "stream" and output.get("name") == whole[-1].get("name"):
            whole[-1].text += output.text
        else:
            whole.append(output)
    return whole


async def execute(path: Path) -> None:
    """Runs a notebook anew. Only what the cells show is written, nothing about the kernel that ran them."""
    from support.notebooks import code_cells, run  # noqa: PLC0415 - only now are they to be found

    notebook = nbformat.read(path, as_version=4)
    metadata = copy.deepcopy(notebook.metadata)
    await run(notebook, path.parent)
    notebook.metadata = metadata
    for cell in code_cells(notebook):
        cell.outputs = joined(cell.outputs)
    nbformat.write(notebook, path)


def main() -> None:
    """Runs one after the other; the first error ends it, and the notebook with the error stays as it was."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(HERE.glob("*.ipynb")):
        print(path.name, flush=True)
        asyncio.run(execute(path))


if __name__ == "__main__":
    main()
