"""The program that is kept beside a graph: a quicker start, and never another vector."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support import compiled

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.engines.openvino import program
from langchain_localhf.engines.openvino.graph import Graph
from langchain_localhf.engines.openvino.settings import GraphSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = ["the ship", "a longer text of several words", ""]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of a tiny graph."""
    return shutil.copytree(compiled.tiny().folder / "openvino", tmp_path / "openvino")


@pytest.fixture
def built_anew(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The graphs whose program is made anew."""
    names: list[str] = []
    real = program._compiled

    def spy(path: Path, *settings: object) -> object:
        names.append(path.name)
        return real(path, *settings)  # type: ignore[arg-type]

    monkeypatch.setattr(program, "_compiled", spy)
    return names


def test_program_is_read_on_a_machine_of_its_kind(folder: Path, built_anew: list[str]) -> None:
    """Nothing is built, and the vectors are those of the graph."""
    quick = Graph(folder).run(TEXTS)
    assert built_anew == []
    (folder / "model.blob").unlink()
    assert np.array_equal(quick, Graph(folder).run(TEXTS))
    assert built_anew == ["model.xml"]


def _other_machine(folder: Path) -> None:
    GraphSettings.read(folder).changed(folder, built_for="2020.1; another processor")


def _damaged(folder: Path) -> None:
    (folder / "model.blob").write_bytes(b"no program")


@pytest.mark.parametrize("change", [_other_machine, _damaged])
def test_graph_runs_where_the_program_does_not(
    folder: Path, built_anew: list[str], change: Callable[[Path], None]
) -> None:
    """On another machine, or if it is damaged."""
    right = Graph(folder).run(TEXTS)
    change(folder)
    assert np.abs(Graph(folder).run(TEXTS) - right).max() < 1e-6
    assert built_anew == ["model.xml"]


def test_settings_of_the_user_count(folder: Path, built_anew: list[str]) -> None:
    """A program that was made with others is not used."""
    Graph(folder, model_kwargs={"ov_config": {"NUM_STREAMS": "2"}})
    Graph(folder, precision="f32")
    assert built_anew == ["model.xml", "model.xml"]


def test_program_is_verified() -> None:
    """It is in the manifest as every file that runs."""
    manifest = compiled.tiny().manifest
    assert manifest is not None
    assert "openvino/model.blob" in {entry.path for entry in manifest.runtime_files}
    assert HuggingFaceEmbeddings(model_name=str(compiled.tiny().folder)).embed_query("a")
