"""From a model's name to a cross-encoder that runs, in the store or out of it, compiled or not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder
from support import checkpoints, compiled
from support.network import network_events

from langchain_localhf import engines, provisioning
from langchain_localhf.engines import golden
from langchain_localhf.engines.base import PROBE_PAIRS
from langchain_localhf.engines.openvino.scorer import OpenVINOScorer
from langchain_localhf.engines.torch.scorer import TorchScorer
from langchain_localhf.errors import (
    CheckpointError,
    IntegrityError,
    ModelNotFoundError,
    UninitializedWeightsError,
    UnsupportedModelError,
)
from langchain_localhf.loading import load_encoder, load_generator, load_scorer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from langchain_localhf.store.model_store import LocalModel

PAIRS = [("a red ship", "sails at dawn"), ("tax", "the harbour " * 50), ("", "one")]
CPU = {"device": "cpu"}


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> LocalModel:
    """A compiled cross-encoder in the store; do not change it."""
    model = compiled.cross_encoder()
    monkeypatch.setenv("LOCALHF_HOME", str(model.folder.parents[1]))
    return model


def _theirs(folder: Path) -> np.ndarray:
    return np.asarray(CrossEncoder(str(folder), device="cpu", local_files_only=True).predict(PAIRS))


@pytest.mark.parametrize("make", [checkpoints.classifier, checkpoints.cross_encoder])
def test_a_folder(tmp_path: Path, make: Callable[..., Path]) -> None:
    """Runs in torch, whether sentence-transformers saved it or not; equal requests share it."""
    folder = make(tmp_path / "model", labels=3)
    loaded = load_scorer(str(folder), model_kwargs=CPU)
    assert isinstance(loaded.scorer, TorchScorer)
    assert not loaded.is_compiled
    assert np.abs(loaded.scorer.score(PAIRS) - _theirs(folder)).max() < 1e-5
    assert load_scorer(str(folder), model_kwargs=CPU) is loaded
    assert load_scorer(str(folder), model_kwargs={**CPU, "max_length": 8}) is not loaded


def test_a_model_that_is_not_here() -> None:
    """The error has the command that brings it."""
    with pytest.raises(ModelNotFoundError, match="localhf pull org/missing"):
        load_scorer("org/missing")


@pytest.mark.parametrize("make", [checkpoints.classifier, checkpoints.cross_encoder])
def test_a_model_of_the_store(tmp_path: Path, make: Callable[..., Path]) -> None:
    """`add` proves it sound and remembers its scores, in the manifest and in every lockfile its identity."""
    added = provisioning.add(make(tmp_path / "model"), "org/reranker")
    assert added.manifest is not None
    assert added.manifest.check is not None
    assert added.manifest.encoder is None
    loaded = load_scorer("org/reranker", model_kwargs=CPU)
    assert added.manifest.check.golden == golden.record_scores(loaded.scorer.probe_scores)
    assert added.manifest.fingerprint == loaded.fingerprint()
    assert provisioning.lock(tmp_path / "localhf.lock")[0].manifest == added.manifest


def test_an_unsound_model_stays_out_of_the_store(tmp_path: Path, store_home: Path) -> None:
    """A classifier that would be random."""
    folder = checkpoints.classifier(tmp_path / "model")
    checkpoints.edit_weights(folder, checkpoints.without("classifier.weight"))
    with pytest.raises(UninitializedWeightsError):
        provisioning.add(folder, "org/reranker")
    assert not (store_home / "org" / "reranker").exists()


@pytest.mark.usefixtures("stored")
def test_the_compiled_graph() -> None:
    """It runs wherever it can do what is asked; torch does the rest, and on request."""
    name = "org/tiny-cross-encoder"
    loaded = load_scorer(name)
    assert isinstance(loaded.scorer, OpenVINOScorer)
    assert loaded.is_compiled
    theirs = _theirs(loaded.model.folder)
    assert np.abs(loaded.scorer.score(PAIRS) - theirs).max() < 1e-5
    in_torch = load_scorer(name, backend="torch", model_kwargs=CPU)
    assert isinstance(in_torch.scorer, TorchScorer)
    assert np.abs(in_torch.scorer.score(PAIRS) - theirs).max() < 1e-5
    assert isinstance(load_scorer(name, model_kwargs={**CPU, "max_length": 8}).scorer, TorchScorer)
    assert isinstance(load_scorer(name, model_kwargs={"ov_config": {}}).scorer, OpenVINOScorer)


def test_its_manifest(stored: LocalModel) -> None:
    """It says what was compiled, how far that is from torch, and which scores it has to give."""
    manifest = stored.manifest
    assert manifest is not None
    assert manifest.compiled is not None
    assert [parity.precision for parity in manifest.compiled.score_parity] == ["f32"]
    assert manifest.compiled.fingerprint == manifest.fingerprint
    assert manifest.compiled.golden is not None
    assert len(manifest.compiled.golden.texts) == 2 * len(PROBE_PAIRS)
    assert type(manifest).from_json(manifest.to_json()) == manifest
    assert provisioning.compile_model("org/tiny-cross-encoder", precision="f32").manifest == manifest


def test_without_torch(stored: LocalModel, tmp_path: Path) -> None:
    """A packed copy has no weights of its own, and runs without importing torch, transformers or LangChain."""
    packed = provisioning.pack("org/tiny-cross-encoder", tmp_path / "packed")
    assert not (packed.folder / "model.safetensors").exists()
    script = """
import json, sys
from langchain_localhf.loading import load_scorer
scores = load_scorer("org/tiny-cross-encoder").scorer.score([tuple(pair) for pair in json.loads(sys.argv[1])])
heavy = {"torch", "transformers", "sentence_transformers", "langchain_core"} & sys.modules.keys()
print(json.dumps([scores.tolist(), sorted(heavy)]))
"""
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-c", script, json.dumps(PAIRS)],
        env={**os.environ, "LOCALHF_HOME": str(tmp_path / "packed")},
        check=True,
        capture_output=True,
        text=True,
    )
    scores, heavy = json.loads(done.stdout)
    assert np.abs(np.array(scores) - _theirs(stored.folder)).max() < 1e-5
    assert heavy == []


@pytest.mark.usefixtures("stored")
def test_nothing_is_connected_or_resolved() -> None:
    """Not by a graph either."""
    script = """
from langchain_localhf.loading import load_scorer
load_scorer("org/tiny-cross-encoder", backend="openvino").scorer.score([("a city", "https://127.0.0.1:9/a.png")])
"""
    assert network_events(script) == []


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_other_kinds_are_not_mixed_up(backend: str) -> None:
    """A cross-encoder makes no vectors and no text, compiled or not; an embedding model scores nothing."""
    with pytest.raises(UnsupportedModelError, match="is a cross-encoder"):
        load_encoder("org/tiny-cross-encoder", backend=backend)
    with pytest.raises(UnsupportedModelError, match="is a cross-encoder"):
        load_generator("org/tiny-cross-encoder", task="text-generation")


@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_an_embedding_model_scores_nothing(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """Compiled or not."""
    monkeypatch.setenv("LOCALHF_HOME", str(compiled.tiny().folder.parents[1]))
    with pytest.raises(UnsupportedModelError, match="is no cross-encoder"):
        load_scorer("org/tiny", backend=backend)


def test_a_model_that_is_not_compiled(tmp_path: Path) -> None:
    """The hint is the command that compiles it."""
    provisioning.add(checkpoints.cross_encoder(tmp_path / "model"), "org/reranker")
    with pytest.raises(UnsupportedModelError, match="localhf compile org/reranker"):
        load_scorer("org/reranker", backend="openvino")


def test_a_changed_file(tmp_path: Path) -> None:
    """It is named, whatever else goes wrong."""
    added = provisioning.add(checkpoints.cross_encoder(tmp_path / "model"), "org/reranker")
    checkpoints.flip_byte(added.folder / "model.safetensors")
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        load_scorer("org/reranker", model_kwargs=CPU)


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_other_scores_than_when_it_was_checked(monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    """A library that calculates something else is noticed at the next load, unless other settings were asked for."""
    engine: type[Any] = OpenVINOScorer if backend == "openvino" else TorchScorer
    right = engine.score
    monkeypatch.setattr(engine, "score", lambda self, pairs, **settings: right(self, pairs, **settings) + 0.3)
    with pytest.raises(CheckpointError, match=r"other scores than .*difference 0\.3000") as caught:
        load_scorer("org/tiny-cross-encoder", backend=backend, model_kwargs=CPU)
    assert "localhf" in str(caught.value.hint)
    prompts = {"prompts": {"red": "red "}, "default_prompt_name": "red"}
    assert load_scorer("org/tiny-cross-encoder", backend=backend, model_kwargs={**CPU, **prompts})


def test_without_an_engine_nothing_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest then holds its identity only."""
    monkeypatch.setattr(engines, "installed", lambda _backend="torch": False)
    manifest = provisioning.add(checkpoints.classifier(tmp_path / "model"), "org/reranker").manifest
    assert manifest is not None
    assert manifest.fingerprint is not None
    assert manifest.check is None
