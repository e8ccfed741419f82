"""Runs the Python blocks of the README and of the documentation as tests, with the real model in a store."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

sys.path.insert(0, str(Path(__file__).parent / "tests"))

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty working folder, and a store with all-MiniLM-L6-v2: where a reader of the documentation stands."""
    from support.checkpoints import minilm_folder  # noqa: PLC0415 - imports torch, which not every run needs

    from langchain_localhf.provisioning import add  # noqa: PLC0415 - as above

    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("LOCALHF_HOME", str(folder / "models"))
        patch.chdir(folder)
        add(minilm_folder(), "sentence-transformers/all-MiniLM-L6-v2")
        yield folder


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md"],
    fixtures=["reader"],
).pytest()
