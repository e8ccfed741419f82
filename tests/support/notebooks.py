"""Notebooks, run in a kernel."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from nbclient import NotebookClient
from traitlets.config import Config

if TYPE_CHECKING:
    from pathlib import Path

    from nbformat import NotebookNode


async def run(notebook: NotebookNode, folder: Path) -> None:
    """Executes all cells in a kernel that starts in this folder; the first error is raised.

    The kernel is reached through files, not through ports of this machine.
    """
    # A folder of their own, because their names may have no more than about a hundred characters.
    with TemporaryDirectory() as files:
        config = Config(KernelManager={"transport": "ipc", "connection_file": f"{files}/kernel.json"})
        resources = {"metadata": {"path": str(folder)}}
        client = NotebookClient(notebook, config=config, resources=resources, timeout=300, record_timing=False)
        await client.async_execute()


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells with code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(notebook: NotebookNode) -> list[str]:
    """The pictures among the outputs."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def said(notebook: NotebookNode, stream: str) -> str:
    """What the cells wrote to `stdout` or to `stderr`."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.get("name") == stream)
