"""Runs the Python blocks of the README and of the documentation as tests.

all-MiniLM-L6-v2 is the real one. In place of the language models that the text names there are tiny ones with random
weights: a block shows how a model is used, and holds to what is so with any model.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

sys.path.insert(0, str(Path(__file__).parent / "tests"))

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def language_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache with the language models that the documentation names."""
    from support import language_models as tiny  # noqa: PLC0415 - imports torch, which not every run needs

    cache, commit = tmp_path_factory.mktemp("hub"), "1" * 40
    folders = {
        "gpt2": tiny.folder("gpt2"),
        "Qwen/Qwen3-0.6B": tiny.folder("qwen2"),
        "HuggingFaceTB/SmolLM2-135M-Instruct": tiny.folder("llama"),
        "google-t5/t5-small": tiny.folder("t5"),
        "llava-hf/llava-interleave-qwen-0.5b-hf": tiny.vision_folder(),
    }
    for name, folder in folders.items():
        repository = cache / f"models--{name.replace('/', '--')}"
        _widen(shutil.copytree(folder, repository / "snapshots" / commit))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit, encoding="utf-8")
    return cache


def _widen(model: Path) -> None:
    """Gives a model whose positions are computed the room that the named ones have."""
    path = model / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    if "max_position_embeddings" in config:
        path.write_text(json.dumps(config | {"max_position_embeddings": 8192}), encoding="utf-8")


@pytest.fixture(scope="module")
def reader(language_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty working folder, a store with all-MiniLM-L6-v2, and language models in a cache: where a reader stands."""
    from support.checkpoints import minilm_folder  # noqa: PLC0415 - imports torch, which not every run needs

    from langchain_localhf.provisioning import add  # noqa: PLC0415 - as above

    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.setenv("LOCALHF_HOME", str(folder / "models"))
        patch.setenv("HF_HUB_CACHE", str(language_models))
        patch.chdir(folder)
        add(minilm_folder(), "sentence-transformers/all-MiniLM-L6-v2")
        shutil.copytree(next(language_models.glob("models--gpt2/snapshots/*")), folder / "my-gpt2")
        yield folder


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/*.md"],
    fixtures=["reader"],
).pytest()
