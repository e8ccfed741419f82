"""Runs the code of the README, of the documentation and of the examples' pages, Python and commands, as a reader would.

all-MiniLM-L6-v2 is the real one. In place of the other models that the text names there are tiny ones with random
weights: a block shows how a model is used, and holds to what is so with any model.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil import Document, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from sybil.region import Lexeme

sys.path.insert(0, str(Path(__file__).parent / "tests"))

from support.network import NetworkGuard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.fake_hub import FakeHub
    from support.terminal import Terminal
    from sybil import Example

ROOT = Path(__file__).parent


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


@pytest.fixture(scope="session")
def hub(language_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """A hub with everything that the documentation pulls."""
    from support import checkpoints, remote_checkpoints  # noqa: PLC0415 - imports torch, which not every run needs
    from support.fake_hub import running_hub  # noqa: PLC0415 - as above

    tiny = checkpoints.sentence_transformer(tmp_path_factory.mktemp("texts") / "tiny")
    with pytest.MonkeyPatch.context() as patch, running_hub(patch) as hub:
        hub.upload("sentence-transformers/all-MiniLM-L6-v2", checkpoints.minilm_folder())
        for name in ("intfloat/multilingual-e5-large", "intfloat/e5-small", "BAAI/bge-m3"):
            hub.upload(name, tiny)
        for snapshot in language_models.glob("models--*/snapshots/*"):
            hub.upload(snapshot.parts[-3].removeprefix("models--").replace("--", "/"), snapshot)
        jina, code = "jinaai/jina-embeddings-v2-base-en", "jinaai/jina-bert-implementation"
        folder = remote_checkpoints.alibi().build(tmp_path_factory.mktemp("jina") / "tiny")
        config = (folder / "config.json").read_text(encoding="utf-8")
        (folder / "config.json").write_text(config.replace("some-org/bert-with.alibi", code), encoding="utf-8")
        hub.upload(code, shutil.move(folder / "code" / "some-org--bert-with.alibi", folder.parent / "code"))
        (folder / "code").rmdir()
        hub.upload(jina, folder)
        yield hub


@pytest.fixture(scope="module")
def reader(hub: FakeHub, language_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """Where a reader stands: in a folder with our examples, a store with all-MiniLM-L6-v2, other models in a cache."""
    from chromadb.api.shared_system_client import SharedSystemClient  # noqa: PLC0415 - as above
    from support.checkpoints import minilm_folder  # noqa: PLC0415 - imports torch, which not every run needs
    from support.terminal import Terminal  # noqa: PLC0415 - as above

    from langchain_localhf.provisioning import add  # noqa: PLC0415 - as above

    home = tmp_path_factory.mktemp("home")
    folder = home / "work"
    folder.mkdir()
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("LOCALHF_HOME", str(home / "models"))
        patch.setenv("HF_HUB_CACHE", str(language_models))
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        patch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
        patch.chdir(folder)
        add(minilm_folder(), "sentence-transformers/all-MiniLM-L6-v2")
        shutil.copytree(next(language_models.glob("models--gpt2/snapshots/*")), folder / "my-gpt2")
        # curl draws progress bars where no terminal is, and takes an error for an answer.
        (home / ".curlrc").write_text("silent\nshow-error\nfail-with-body\n", encoding="utf-8")
        terminal = Terminal(folder, home / ".terminal")
        yield terminal
        terminal.close()
    # Chroma keeps an open database by its path, and the next page has a `db` of its own.
    SharedSystemClient.clear_system_cache()
    shutil.rmtree(home)  # with its models; there are many pages


@pytest.fixture(scope="module")
def exporter(reader: Terminal, language_models: Path) -> Iterator[str | None]:
    """The program that exports language models; None where there is none. And the files that the guide names."""
    from support import gguf_models, openvino_models  # noqa: PLC0415 - imports torch, which not every run needs
    from support.checkpoints import minilm_folder  # noqa: PLC0415 - as above

    from langchain_localhf.provisioning import add  # noqa: PLC0415 - as above

    shutil.copytree(minilm_folder(), reader.folder / "plain-minilm")
    (reader.folder / "texts.txt").write_text("\n".join(_paragraphs()[::16]), encoding="utf-8")
    shutil.copy(gguf_models.file(), reader.folder / "qwen2-0.5b-f16.gguf")
    [gpt2] = language_models.glob("models--gpt2/snapshots/*")
    add(gpt2, "gpt2")
    command = openvino_models.optimum_cli()
    if command is None:
        yield None
        return
    export = ["export", "openvino", "--model", str(gpt2), "--task", "text-generation-with-past"]
    subprocess.run([command, *export, reader.folder / "ov_model_dir"], check=True, capture_output=True)  # noqa: S603 - the real one
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALHF_OPTIMUM_CLI", str(command))
        yield str(command)


def _paragraphs() -> list[str]:
    """Paragraphs of real text, a line each."""
    speeches = sorted((ROOT / "examples" / "state_of_the_union").glob("*.txt"))
    parts = (part for speech in speeches for part in speech.read_text(encoding="utf-8").split("\n\n"))
    return [" ".join(part.split()) for part in parts if part.strip()]


class Python(PythonEvaluator):
    """Runs Python, in which the usual address is that of the server that an earlier block started.

    Whatever else a block reaches for in a network fails it.
    """

    guard = NetworkGuard()
    guard.loopback_allowed = True

    def __call__(self, example: Example) -> None:
        """Runs a block."""
        parsed = example.parsed
        example.parsed = Lexeme(example.namespace["reader"].served(parsed), parsed.offset, parsed.line_offset)
        self.guard.attempts.clear()
        self.guard.on = True
        try:
            super().__call__(example)
        finally:
            self.guard.on = False
        if self.guard.attempts:
            raise AssertionError(f"reached for the network: {self.guard.attempts}")


def run_commands(example: Example) -> None:
    """Runs the commands of a block in the reader's terminal."""
    example.namespace["reader"].run(example.parsed)


def pages(*patterns: str, fixtures: list[str], excludes: list[str] | None = None) -> Sybil:
    """What runs the blocks of pages."""
    parsers = [CodeBlockParser("python", Python()), CodeBlockParser("console", run_commands), SkipParser()]
    return Sybil(
        parsers=parsers, patterns=patterns, excludes=excludes or [], fixtures=fixtures, document_types={".md": Document}
    )


_GUIDE = "docs/guides/openvino.md"
pytest_collect_file = (
    pages(
        "README.md",
        "CONTRIBUTING.md",
        "docs/**/*.md",
        "*/README.md",
        "examples/*/README.md",
        fixtures=["reader"],
        excludes=[_GUIDE],
    )
    + pages(_GUIDE, fixtures=["reader", "exporter"])
).pytest()
