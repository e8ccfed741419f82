"""Every notebook runs, from where Jupyter starts it, and was committed as it ran."""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import nbformat
import pytest
from nbclient import NotebookClient
from support import shapes
from support.checkpoints import minilm_folder
from traitlets.config import Config

from langchain_localhf.provisioning import add

if TYPE_CHECKING:
    from nbformat import NotebookNode

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

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def working_copy(tmp_path: Path) -> Path:
    """The parts of the repository that notebooks use."""
    for part in ("notebooks", "tests/support", "examples/state_of_the_union"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def models(
    request: pytest.FixtureRequest, language_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The models that notebooks name: the real all-MiniLM-L6-v2, and stand-ins for the others."""
    monkeypatch.setenv("LOCALHF_HOME", str(tmp_path / "models"))
    monkeypatch.setenv("HF_HUB_CACHE", str(language_models))
    add(minilm_folder(), "sentence-transformers/all-MiniLM-L6-v2")
    if request.node.callspec.params["path"].stem == "pictures":
        add(shapes.model(), "sentence-transformers/clip-ViT-B-32")


async def run(notebook: NotebookNode, folder: Path) -> None:
    """Executes all cells in a kernel that starts in this folder; the first error is raised.

    The kernel is reached through files, not through ports of this machine.
    """
    # A folder of their own, because their names may have no more than about a hundred characters.
    with TemporaryDirectory() as files:
        config = Config(KernelManager={"transport": "ipc", "connection_file": f"{files}/kernel.json"})
        resources = {"metadata": {"path": str(folder)}}
        await NotebookClient(notebook, config=config, resources=resources, timeout=300).async_execute()


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The cells with code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_answer(cell: NotebookNode) -> bool:
    """Whether the cell shows what a language model wrote, which a stand-in would write at random."""
    return "answer" in cell.metadata.get("tags", ())


def pictures(notebook: NotebookNode) -> list[str]:
    """The pictures among the outputs."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def said(notebook: NotebookNode, stream: str) -> str:
    """What the cells wrote to `stdout` or to `stderr`."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.get("name") == stream)


@each_notebook
@pytest.mark.usefixtures("models")
async def test_runs(path: Path, working_copy: Path) -> None:
    """A notebook runs from its own folder without an error and without a network, draws, and says what is committed."""
    committed = nbformat.read(working_copy / "notebooks" / path.name, as_version=4)
    notebook = copy.deepcopy(committed)
    for cell in code_cells(notebook):
        cell.outputs = []
    setup = notebook.cells.index(code_cells(notebook)[0])
    notebook.cells.insert(setup + 1, nbformat.v4.new_code_cell(GUARD_ON))
    notebook.cells.append(nbformat.v4.new_code_cell(GUARD_READ))
    await run(notebook, working_copy / "notebooks")
    assert pictures(notebook)
    assert str(working_copy) not in said(notebook, "stdout")
    assert all(cell.outputs for cell in code_cells(notebook) if is_answer(cell))
    notebook.cells = [cell for cell in notebook.cells if not is_answer(cell)]
    assert said(notebook, "stdout") == said(committed, "stdout")


@each_notebook
async def test_starts_in_the_root(path: Path, working_copy: Path) -> None:
    """The repository is found from its root, too."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [code_cells(notebook)[0], nbformat.v4.new_code_cell("print(root)")]
    await run(notebook, working_copy)
    assert said(notebook, "stdout").strip() == str(working_copy)


@each_notebook
def test_shows_no_words_of_a_stand_in(path: Path) -> None:
    """A cell with the words of a language model is marked in its source, and committed without them."""
    cells = code_cells(nbformat.read(path, as_version=4))
    assert [is_answer(cell) for cell in cells] == ["the model's own words" in cell.source for cell in cells]
    assert all(not cell.outputs for cell in cells if is_answer(cell))


@each_notebook
def test_is_committed_as_it_ran(path: Path) -> None:
    """What a reader sees is a whole run, top to bottom: its picture, no warnings, no path of a machine."""
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert pictures(notebook)
    assert said(notebook, "stderr") == ""
    assert ABSOLUTE_PATH.findall(said(notebook, "stdout")) == []
