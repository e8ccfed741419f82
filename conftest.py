"""Runs the Python blocks of the README and of the documentation as tests; of the guide to OpenVINO, commands, too.

all-MiniLM-L6-v2 is the real one. In place of the other models that the text names there are tiny ones with random
weights: a block shows how a model is used, and holds to what is so with any model.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

sys.path.insert(0, str(Path(__file__).parent / "tests"))

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sybil import Example

_GUIDE = "docs/guides/openvino.md"


@pytest.fixture(scope="session")
def language_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache with the models that the documentation names, but for all-MiniLM-L6-v2."""
    from support import checkpoints, dual_encoders  # noqa: PLC0415 - imports torch, which not every run needs
    from support import language_models as tiny  # noqa: PLC0415 - as above

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
    reranker = checkpoints.cross_encoder(tmp_path_factory.mktemp("reranker") / "tiny")
    checkpoints.hub_cache(cache, "cross-encoder/ms-marco-MiniLM-L6-v2", reranker)
    clip = dual_encoders.st_clip(tmp_path_factory.mktemp("clip") / "tiny")
    checkpoints.hub_cache(cache, "sentence-transformers/clip-ViT-B-32", clip)
    texts = dual_encoders.text_tower(tmp_path_factory.mktemp("clip-texts") / "tiny")
    checkpoints.hub_cache(cache, "sentence-transformers/clip-ViT-B-32-multilingual-v1", texts)
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


@pytest.fixture(scope="module")
def exporter(reader: Path, language_models: Path) -> Iterator[str | None]:
    """The program that exports language models; None where there is none. And the files that the guide names."""
    from support import gguf_models, openvino_models  # noqa: PLC0415 - imports torch, which not every run needs
    from support.checkpoints import minilm_folder  # noqa: PLC0415 - as above

    from langchain_localhf.provisioning import add  # noqa: PLC0415 - as above

    shutil.copytree(minilm_folder(), reader / "plain-minilm")
    (reader / "texts.txt").write_text("\n".join(_paragraphs()[::16]), encoding="utf-8")
    shutil.copy(gguf_models.file(), reader / "qwen2-0.5b-f16.gguf")
    [gpt2] = language_models.glob("models--gpt2/snapshots/*")
    add(gpt2, "gpt2")
    command = openvino_models.optimum_cli()
    if command is None:
        yield None
        return
    export = ["export", "openvino", "--model", str(gpt2), "--task", "text-generation-with-past"]
    subprocess.run([command, *export, reader / "ov_model_dir"], check=True, capture_output=True)  # noqa: S603 - the real one
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALHF_OPTIMUM_CLI", str(command))
        yield str(command)


def _paragraphs() -> list[str]:
    """Paragraphs of real text, a line each."""
    speeches = sorted((Path(__file__).parent / "examples" / "state_of_the_union").glob("*.txt"))
    parts = (part for speech in speeches for part in speech.read_text(encoding="utf-8").split("\n\n"))
    return [" ".join(part.split()) for part in parts if part.strip()]


def run_commands(example: Example) -> None:
    """Runs the `localhf` commands of a block, and holds to it that they succeed; other programs are not run."""
    from click.testing import CliRunner  # noqa: PLC0415 - only this page needs it

    from langchain_localhf.cli import main  # noqa: PLC0415 - as above

    for line in example.parsed.splitlines():
        variables, program, arguments = line.removeprefix("$ ").partition("localhf ")
        if line.startswith("$ ") and program and all("=" in word for word in variables.split()):
            environment = dict(word.split("=", 1) for word in variables.split())
            result = CliRunner().invoke(main, shlex.split(arguments), env=environment)
            if result.exit_code != 0:
                raise AssertionError(result.output)


pytest_collect_file = (
    Sybil(
        parsers=[PythonCodeBlockParser(), SkipParser()],
        patterns=["README.md", "docs/**/*.md"],
        excludes=[_GUIDE],
        fixtures=["reader"],
    )
    + Sybil(
        parsers=[PythonCodeBlockParser(), CodeBlockParser("console", run_commands), SkipParser()],
        patterns=[_GUIDE],
        fixtures=["reader", "exporter"],
    )
).pytest()
