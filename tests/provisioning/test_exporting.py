"""Compiling language models, by the real optimum-cli, into the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support import language_models, openvino_models
from support.folders import files

from langchain_localhf import HuggingFacePipeline, provisioning
from langchain_localhf.engines import exporting
from langchain_localhf.errors import (
    CheckpointError,
    EngineNotInstalledError,
    IntegrityError,
    UninitializedWeightsError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_localhf.store.model_store import LocalModel


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names the real exporter in the environment."""
    command = openvino_models.optimum_cli()
    if command is None:
        pytest.skip("optimum-cli is not installed; `make export-env` installs it")
    monkeypatch.setenv("LOCALHF_OPTIMUM_CLI", str(command))


@pytest.fixture
def added() -> LocalModel:
    """A tiny model in the store."""
    return provisioning.add(language_models.folder("gpt2"), "gpt2")


@pytest.mark.usefixtures("exporter")
def test_compile_pack_and_run(added: LocalModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole way of a language model, into an image without its weights; what runs is verified."""
    with pytest.raises(UnsupportedModelError, match="localhf compile"):
        HuggingFacePipeline.from_model_id("gpt2", task="text-generation", backend="openvino")
    model = provisioning.compile_model("gpt2", precision="f32", show_progress=True)
    assert "100% of the likeliest tokens are those of torch" in capsys.readouterr().err
    assert model.manifest is not None
    assert model.manifest.compiled is not None
    assert model.manifest.compiled.fingerprint is None
    assert not provisioning.verify(model)
    again = provisioning.compile_model("gpt2", precision="f32")
    assert again.manifest == model.manifest
    packed = provisioning.pack("gpt2", tmp_path / "image")
    assert not list(packed.folder.rglob("*.safetensors"))
    exact = {"ov_config": openvino_models.EXACT}
    settings = {"task": "text-generation", "pipeline_kwargs": {"max_new_tokens": 12}}
    right = HuggingFacePipeline.from_model_id("gpt2", **settings).invoke("The quick")
    for name in ("gpt2", str(packed.folder)):
        hf = HuggingFacePipeline.from_model_id(name, backend="openvino", model_kwargs=exact, **settings)
        assert hf.invoke("The quick") == right
    graph = packed.folder / "openvino" / "openvino_model.bin"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError):
        HuggingFacePipeline.from_model_id(str(packed.folder), backend="openvino", **settings)
    (model.folder / "model.safetensors").unlink()
    HuggingFacePipeline.from_model_id("gpt2", backend="openvino", **settings)


@pytest.mark.usefixtures("exporter")
def test_export_that_writes_another_text(added: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written."""
    before = files(added.folder)
    monkeypatch.setattr(exporting, "greedy_tokens", lambda _folder, prompts, count: [[1] * count for _ in prompts])
    with pytest.raises(CheckpointError, match="another text than torch"):
        provisioning.compile_model(added, precision="f32")
    assert files(added.folder) == before


def test_model_without_its_head(tmp_path: Path) -> None:
    """An exporter would fill it in with random numbers; our own engine looks first."""
    folder = language_models.folder("llama")
    copy = tmp_path / "llama"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    from support.checkpoints import edit_weights, without  # noqa: PLC0415 - torch

    edit_weights(copy, without("lm_head"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    provisioning.add(copy, "org/headless")
    with pytest.raises(UninitializedWeightsError):
        provisioning.compile_model("org/headless")


def test_exporter_that_is_not_there(added: LocalModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hint is how to have one; precisions that a language model does not have are refused before."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineNotInstalledError, match="optimum-cli"):
        provisioning.compile_model(added)
    with pytest.raises(UnsupportedModelError, match="bf16"):
        provisioning.compile_model(added, precision="bf16")
