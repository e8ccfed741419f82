"""Every notebook runs as a stranger would run it, and was committed as it ran."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from support.notebooks import code_cells, pictures, run, said

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
GUARD_ON = """
import sys
sys.path.insert(0, "../tests")
from support.network import NetworkGuard
guard = NetworkGuard()
guard.on = True
sys.path.pop(0)
"""
GUARD_READ = "assert guard.attempts == [], guard.attempts"
# A slash that begins a word, and not one inside a repository's name or an address.
ABSOLUTE_PATH = re.compile(r"(?<![\w./:-])/\w[\w.-]*/")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def working_copy(tmp_path: Path) -> Path:
    """The parts of the repository that notebooks use."""
    for part in ("notebooks", "tests/support", "examples/state_of_the_union"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@each_notebook
async def test_runs(path: Path, working_copy: Path, store_home: Path) -> None:
    """A notebook runs without preparation or network, draws and says what is committed, and leaves your store alone."""
    committed = nbformat.read(path, as_version=4)
    notebook = copy.deepcopy(committed)
    for cell in code_cells(notebook):
        cell.outputs = []
    setup = notebook.cells.index(code_cells(notebook)[0])
    notebook.cells.insert(setup + 1, nbformat.v4.new_code_cell(GUARD_ON))
    notebook.cells.append(nbformat.v4.new_code_cell(GUARD_READ))
    await run(notebook, working_copy / "notebooks")
    assert len(pictures(notebook)) == len(pictures(committed))
    assert said(notebook, "stdout") == said(committed, "stdout")
    assert not store_home.exists()  # noqa: ASYNC240 - nothing else is waiting


@each_notebook
async def test_starts_in_the_root(path: Path, working_copy: Path) -> None:
    """The repository is found from its root, too."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [code_cells(notebook)[0], nbformat.v4.new_code_cell("print(root)")]
    await run(notebook, working_copy)
    assert said(notebook, "stdout").strip() == str(working_copy)


@each_notebook
def test_is_committed_as_it_ran(path: Path) -> None:
    """What a reader sees is a whole run, top to bottom: its picture, no warnings, no path of a machine."""
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert pictures(notebook)
    assert said(notebook, "stderr") == ""
    assert ABSOLUTE_PATH.findall(said(notebook, "stdout")) == []


@each_notebook
def test_leads_on(path: Path) -> None:
    """Links of a notebook lead to files that are there, and the page about notebooks links to it."""
    text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")
    targets = [path.parent / target for target in LINK.findall(text)]
    assert targets
    assert [target for target in targets if not target.exists()] == []
    assert f"]({path.name})" in path.with_name("README.md").read_text("utf-8")


def test_writes_what_it_showed(tmp_path: Path) -> None:
    """`make notebooks` writes outputs and nothing about the kernel, so that a second run changes nothing."""
    path = tmp_path / "small.ipynb"
    source = "from time import sleep\nfor number in range(3):\n    print(number, flush=True)\n    sleep(0.2)\nnumber"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source, id="small")], metadata={"about": "us"})
    nbformat.write(notebook, path)
    command = [sys.executable, ROOT / "notebooks" / "execute.py", path]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own
    written = path.read_bytes()
    [cell] = nbformat.read(path, as_version=4).cells
    assert [output.get("text", output.get("data")) for output in cell.outputs] == ["0\n1\n2\n", {"text/plain": "2"}]
    assert nbformat.read(path, as_version=4).metadata == {"about": "us"}
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - as above
    assert path.read_bytes() == written
