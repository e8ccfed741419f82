"""Compiling and packing: what is written, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from support import checkpoints, compiled
from support.checkpoints import flip_byte
from support.folders import files

from langchain_localhf import HuggingFaceEmbeddings, engines, provisioning
from langchain_localhf.engines import compiling, parity
from langchain_localhf.errors import (
    CheckpointError,
    EngineNotInstalledError,
    IncompleteModelError,
    InputError,
    IntegrityError,
    LockfileError,
    StoreError,
    UnsafeModelError,
    UnsupportedModelError,
)
from langchain_localhf.store.manifest import Manifest
from langchain_localhf.store.model_store import ModelStore

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_localhf.store.model_store import LocalModel

TEXTS = compiled.CALIBRATION


@pytest.fixture
def added(tiny: Path) -> LocalModel:
    """A tiny model in the store of this test."""
    return provisioning.add(tiny, "org/tiny")


@pytest.fixture
def graph(store_home: Path) -> LocalModel:
    """A tiny model in the store of this test, compiled."""
    shutil.copytree(compiled.tiny().folder, store_home / "org" / "tiny")
    return provisioning.show("org/tiny")


def read(model: LocalModel) -> Manifest:
    """The manifest as it is on the disk."""
    manifest = Manifest.read(model.folder)
    assert manifest is not None
    return manifest


class TestCompile:
    """`compile_model`."""

    def test_the_manifest_tells_what_was_compiled(self, added: LocalModel) -> None:
        """Every file with its hash, the versions, the comparison with torch, and the same fingerprint."""
        before = read(added)
        model = provisioning.compile_model("org/tiny", precision="f32")
        manifest = read(model)
        assert manifest == model.manifest
        assert manifest.model_copy(update={"compiled": None}) == before
        assert manifest.compiled is not None
        assert sorted(path for path in files(model.folder) if path.startswith("openvino/")) == [
            entry.path for entry in manifest.compiled.files
        ]
        assert manifest.compiled.fingerprint == manifest.fingerprint
        assert {"openvino", "torch", "transformers", "sentence-transformers"} == manifest.compiled.versions.keys()
        (measured,) = manifest.compiled.parity
        assert measured.precision == "f32"
        assert measured.texts > 20
        assert 0.99999 < measured.lowest_cosine <= 1
        assert not provisioning.verify(model)

    def test_auto_runs_in_half_precision_only_where_that_was_measured(self, added: LocalModel) -> None:
        """What this machine's processor calculates in is compared with torch, and written down."""
        model = provisioning.compile_model(added)
        assert model.manifest is not None
        assert model.manifest.compiled is not None
        measured = [entry.precision for entry in model.manifest.compiled.parity]
        settings = (model.folder / "openvino" / "graph.json").read_text()
        assert ('"precision": "auto"' in settings) == ("bf16" in measured)

    def test_compiled_already(self, added: LocalModel, capsys: pytest.CaptureFixture[str]) -> None:
        """Nothing is done twice, unless it is asked for, or in another precision."""
        first = provisioning.compile_model(added, precision="f32")
        graph = first.folder / "openvino" / "model.bin"
        written = graph.stat().st_mtime_ns
        again = provisioning.compile_model("org/tiny", precision="f32", show_progress=True)
        assert again.manifest == first.manifest
        assert graph.stat().st_mtime_ns == written
        assert "compiled already" in capsys.readouterr().err
        provisioning.compile_model("org/tiny", precision="f32", force=True)
        assert graph.stat().st_mtime_ns != written

    def test_int8_is_another_vector_space(self, graph: LocalModel) -> None:
        """Its loss is measured on the texts; its vectors do not mix; a text has one vector in every batch."""
        model = provisioning.compile_model("org/tiny", precision="int8", texts=TEXTS)
        assert model.manifest is not None
        assert model.manifest.compiled is not None
        (measured,) = model.manifest.compiled.parity
        assert (measured.precision, measured.texts) == ("int8", len(TEXTS))
        assert measured.neighbours_kept is not None
        embeddings = HuggingFaceEmbeddings(model_name="org/tiny")
        assert embeddings.fingerprint == model.manifest.compiled.fingerprint != model.manifest.fingerprint
        torch = HuggingFaceEmbeddings(model_name="org/tiny", backend="torch")
        assert torch.fingerprint == model.manifest.fingerprint
        together = np.array(embeddings.embed_documents(TEXTS))
        alone = np.array([embeddings.embed_query(text) for text in TEXTS])
        assert np.abs(together - alone).max() < 1e-6

    @pytest.mark.parametrize("texts", [[], TEXTS[:31]])
    def test_int8_without_texts(self, added: LocalModel, texts: list[str]) -> None:
        """Ranges that were learned from nothing would be worth nothing."""
        with pytest.raises(InputError, match="at least 32"):
            provisioning.compile_model(added, precision="int8", texts=texts)
        assert not (added.folder / "openvino").exists()

    def test_int4_is_for_language_models(self, added: LocalModel) -> None:
        """An embedding model has no such graph."""
        with pytest.raises(UnsupportedModelError, match="int4"):
            provisioning.compile_model(added, precision="int4")

    def test_a_graph_that_differs_is_not_written(self, graph: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
        """The error has both figures; what was there stays."""
        before = files(graph.folder)
        monkeypatch.setitem(parity.LEAST_COSINE, "f32", 1.5)
        with pytest.raises(CheckpointError, match=r"lowest cosine \d.*promised are 1.5"):
            provisioning.compile_model(graph, precision="f32", force=True)
        assert files(graph.folder) == before

    def test_half_precision_that_differs(self, added: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
        """`auto` falls back to f32; who asks for bf16 hears that it cannot be had."""
        monkeypatch.setitem(parity.LEAST_COSINE, "bf16", 1.5)
        model = provisioning.compile_model(added)
        assert '"precision": "f32"' in (model.folder / "openvino" / "graph.json").read_text()
        with pytest.raises((CheckpointError, UnsupportedModelError), match="bf16"):
            provisioning.compile_model(added, precision="bf16")

    def test_processor_without_half_precision(self, added: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
        """bf16 cannot be compared there, so it is refused; `auto` is f32."""
        monkeypatch.setattr(compiling, "native_precisions", lambda: ("f32",))
        with pytest.raises(UnsupportedModelError, match="does not calculate in bf16"):
            provisioning.compile_model(added, precision="bf16")
        provisioning.compile_model(added)
        assert '"precision": "f32"' in (added.folder / "openvino" / "graph.json").read_text()

    def test_model_that_cannot_be_traced(self, tmp_path: Path) -> None:
        """A static embedding has a tokenizer of another kind; it stays with torch."""
        provisioning.add(checkpoints.static(tmp_path / "static"), "org/static")
        with pytest.raises(UnsupportedModelError, match="cannot be compiled"):
            provisioning.compile_model("org/static")
        assert HuggingFaceEmbeddings(model_name="org/static").embed_query("a")

    def test_code_runs_only_with_trust(self, tmp_path: Path) -> None:
        """At compiling, stated anew; never after that."""
        provisioning.add(checkpoints.with_own_code(tmp_path / "source"), "org/code", trust_remote_code=True)
        with pytest.raises(UnsafeModelError):
            provisioning.compile_model("org/code")
        model = provisioning.compile_model("org/code", trust_remote_code=True)
        for path in model.folder.glob("*.py"):
            path.write_text("raise SystemExit")
        assert HuggingFaceEmbeddings(model_name="org/code").embed_query("a")
        assert provisioning.verify("org/code").changed

    def test_a_folder_that_nobody_added(self, tiny: Path) -> None:
        """There is no manifest to write it into; the hint says how to get one."""
        with pytest.raises(LockfileError, match="neither pulled nor added") as caught:
            provisioning.compile_model(str(tiny))
        assert "localhf add" in str(caught.value)

    def test_changed_files_are_not_compiled(self, added: LocalModel) -> None:
        """What is compiled is what was pulled."""
        flip_byte(added.folder / "model.safetensors")
        with pytest.raises(IntegrityError):
            provisioning.compile_model(added)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
    def test_folder_that_cannot_be_written(self, added: LocalModel) -> None:
        """Says so, and changes nothing."""
        added.folder.chmod(0o555)
        try:
            with pytest.raises(StoreError, match="nothing can be written"):
                provisioning.compile_model(added)
        finally:
            added.folder.chmod(0o755)

    @pytest.mark.parametrize("missing", ["sentence_transformers", "openvino", "nncf"])
    def test_what_is_not_installed(self, added: LocalModel, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
        """The extra that brings all of it is named."""
        found = engines.find_spec
        monkeypatch.setattr(engines, "find_spec", lambda name: None if name == missing else found(name))
        with pytest.raises(EngineNotInstalledError) as caught:
            provisioning.compile_model(added, precision="int8", texts=TEXTS)
        assert caught.value.hint == 'pip install "langchain-localhf[compile]"'

    def test_left_over_of_a_killed_run(self, graph: LocalModel) -> None:
        """It is cleared away, and hides nothing until then."""
        (graph.folder / ".openvino-staged").mkdir()
        (graph.folder / ".openvino-staged" / "model.bin").write_bytes(b"half")
        assert not provisioning.verify(graph)
        provisioning.compile_model(graph, precision="f32", force=True)
        assert not list(graph.folder.glob(".openvino*"))


class TestVerification:
    """What is loaded is verified, and nothing else."""

    @pytest.mark.parametrize("name", ["openvino/model.bin", "openvino/tokenizer.json", "modules.json"])
    def test_changed_graph(self, graph: LocalModel, name: str) -> None:
        """Loading refuses it; the hint is the command that brings it back."""
        flip_byte(graph.folder / name, offset=3)
        with pytest.raises((IntegrityError, CheckpointError)):
            HuggingFaceEmbeddings(model_name="org/tiny")
        assert provisioning.verify(graph).changed == (name,)

    def test_weights_do_not_matter_to_a_graph(self, graph: LocalModel) -> None:
        """A copy without safetensors runs; `verify` tells that they are missing."""
        (graph.folder / "model.safetensors").unlink()
        assert HuggingFaceEmbeddings(model_name="org/tiny").embed_query("a")
        assert provisioning.verify(graph).missing == ("model.safetensors",)
        with pytest.raises(IntegrityError):
            HuggingFaceEmbeddings(model_name="org/tiny", backend="torch")

    def test_other_vectors_than_when_it_was_compiled(self, graph: LocalModel) -> None:
        """Another library, device or number format shows at every load."""
        manifest = read(graph)
        assert manifest.compiled is not None
        other = compiled.minilm().manifest
        assert other is not None
        assert other.compiled is not None
        changed = manifest.compiled.model_copy(update={"golden": other.compiled.golden})
        manifest.model_copy(update={"compiled": changed}).write(graph.folder)
        with pytest.raises(CheckpointError, match="other vectors") as caught:
            HuggingFaceEmbeddings(model_name="org/tiny")
        assert "localhf compile --force org/tiny" in str(caught.value)


class TestPack:
    """`pack`."""

    def test_packed_model_runs_without_its_weights(self, graph: LocalModel, tmp_path: Path) -> None:
        """By name from the other store, and by its path; same fingerprint, same vectors; it verifies."""
        packed = provisioning.pack("org/tiny", tmp_path / "image")
        assert packed.folder == tmp_path / "image" / "org" / "tiny"
        assert not list(packed.folder.rglob("*.safetensors"))
        assert not provisioning.verify(packed)
        here, there = HuggingFaceEmbeddings(model_name="org/tiny"), HuggingFaceEmbeddings(model_name=str(packed.folder))
        assert here.embed_query("a") == there.embed_query("a")
        assert here.fingerprint == there.fingerprint

    def test_left_over_of_a_killed_pack(self, graph: LocalModel, tmp_path: Path) -> None:
        """What it staged does not come along."""
        store = ModelStore(tmp_path / "image")
        (store.staging(graph.name) / "model.safetensors").write_bytes(b"half")
        packed = provisioning.pack("org/tiny", store.home)
        assert not provisioning.verify(packed)
        assert not list(packed.folder.rglob("*.safetensors"))

    def test_packed_model_with_code(self, tmp_path: Path) -> None:
        """Its code stays behind, too, and nobody has to trust anything."""
        provisioning.add(checkpoints.with_own_code(tmp_path / "source"), "org/code", trust_remote_code=True)
        provisioning.compile_model("org/code", trust_remote_code=True)
        here = HuggingFaceEmbeddings(model_name="org/code")
        packed = provisioning.pack("org/code", tmp_path / "image")
        assert not list(packed.folder.rglob("*.py"))
        assert HuggingFaceEmbeddings(model_name=str(packed.folder)).fingerprint == here.fingerprint

    def test_what_a_packed_model_cannot(self, graph: LocalModel, tmp_path: Path) -> None:
        """Settings that need torch, adding it as a whole model, and compiling it again."""
        folder = provisioning.pack("org/tiny", tmp_path / "image").folder
        with pytest.raises(InputError, match="compiled already"):
            HuggingFaceEmbeddings(model_name=str(folder), model_kwargs={"tokenizer_kwargs": {"model_max_length": 5}})
        with pytest.raises(IncompleteModelError, match="packed"):
            provisioning.add(folder, "org/other")
        with pytest.raises(IncompleteModelError):
            provisioning.compile_model(str(folder), precision="auto")
        with pytest.raises(IncompleteModelError):
            HuggingFaceEmbeddings(model_name=str(folder), backend="torch")

    def test_what_cannot_be_packed(self, added: LocalModel, tmp_path: Path) -> None:
        """A model that is not compiled, for another runtime, or onto itself."""
        with pytest.raises(UnsupportedModelError, match="not compiled"):
            provisioning.pack("org/tiny", tmp_path / "image")
        with pytest.raises(UnsupportedModelError, match="no runtime 'onnx'"):
            provisioning.pack("org/tiny", tmp_path / "image", runtime="onnx")
        provisioning.compile_model(added, precision="f32")
        with pytest.raises(StoreError, match="onto itself"):
            provisioning.pack("org/tiny", added.folder.parent.parent)

    def test_damaged_graph_is_not_packed(self, graph: LocalModel, tmp_path: Path) -> None:
        """An image gets what was compiled, or nothing."""
        flip_byte(graph.folder / "openvino" / "model.bin")
        with pytest.raises(IntegrityError):
            provisioning.pack("org/tiny", tmp_path / "image")
        assert not (tmp_path / "image" / "org").exists()
