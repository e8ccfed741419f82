"""Compiling dual encoders: both graphs or none, and both compared with torch."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner
from support import compiled, dual_encoders
from support.folders import files

from langchain_localhf import HuggingFaceEmbeddings, provisioning
from langchain_localhf.checkpoint.images import ImagePreparation
from langchain_localhf.cli import main
from langchain_localhf.engines import golden
from langchain_localhf.engines.openvino.image_graph import ImageGraph
from langchain_localhf.engines.pictures import golden_pixels
from langchain_localhf.errors import CheckpointError, IntegrityError, UnsupportedModelError
from langchain_localhf.store.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from langchain_localhf.store.compilation import Compilation
    from langchain_localhf.store.model_store import LocalModel


@pytest.fixture
def added(tmp_path: Path) -> LocalModel:
    """A plain CLIP, without `modules.json`, in the store of this test."""
    return provisioning.add(dual_encoders.clip(tmp_path / "source"), "org/clip")


def compilation(model: LocalModel) -> Compilation:
    """What the manifest on the disk says."""
    manifest = Manifest.read(model.folder)
    assert manifest is not None
    assert manifest.compiled is not None
    assert manifest.compiled.fingerprint == manifest.fingerprint
    return manifest.compiled


@pytest.mark.parametrize("family", ["clip", "siglip", "st_clip"])
def test_texts_and_images_are_compared_with_torch(family: str) -> None:
    """Two graphs, two measurements, and the fingerprint of the model itself."""
    found = compilation(compiled.dual_encoder(family))
    assert {"openvino/model.xml", "openvino/images.xml", "openvino/images.bin"} <= {entry.path for entry in found.files}
    assert [(one.of, one.precision) for one in found.parity] == [("texts", "f32"), ("images", "f32")]
    for one in found.parity:
        assert one.texts > 15
        assert one.lowest_cosine > 0.99999
        assert one.batch_difference < 1e-5


@pytest.mark.parametrize("model_type", ["altclip", "chinese_clip", "metaclip_2"])
def test_relatives_of_clip(tmp_path: Path, model_type: str) -> None:
    """Whatever their text towers are."""
    provisioning.add(dual_encoders.relative(tmp_path / "source", model_type), f"org/{model_type}")
    found = compilation(provisioning.compile_model(f"org/{model_type}", precision="f32"))
    assert [one.of for one in found.parity] == ["texts", "images"]


def test_auto_measures_both_in_each_precision(added: LocalModel) -> None:
    """Whatever this machine's processor calculates in."""
    found = compilation(provisioning.compile_model(added))
    precisions = [one.precision for one in found.parity]
    assert precisions[::2] == precisions[1::2] == list(dict.fromkeys(precisions))
    assert [one.of for one in found.parity] == ["texts", "images"] * (len(precisions) // 2)


def test_command(added: LocalModel) -> None:
    """It tells how near each of them is."""
    result = CliRunner().invoke(main, ["compile", added.name, "--precision", "f32"])
    assert result.exit_code == 0, result.output
    assert "f32: cosine to torch 1.0" in result.output
    assert "f32, images: cosine to torch 1.0" in result.output


def test_manifest_from_before_there_were_images() -> None:
    """It is read as one of texts."""
    manifest = compiled.tiny().manifest
    assert manifest is not None
    written = json.loads(manifest.to_json())
    for one in written["compiled"]["parity"]:
        del one["of"]
    assert Manifest.from_json(json.dumps(written)) == manifest


@pytest.mark.parametrize("texts", [[], compiled.CALIBRATION])
def test_no_int8(added: LocalModel, texts: list[str]) -> None:
    """With texts to learn from and without, the answer is the same at once."""
    with pytest.raises(UnsupportedModelError, match="no int8") as caught:
        provisioning.compile_model(added, precision="int8", texts=texts)
    assert "--precision auto" in str(caught.value)
    assert not (added.folder / "openvino").exists()


def _turned(vectors: NDArray[np.float32], _rows: int | None) -> NDArray[np.float32]:
    return np.roll(vectors, 1, axis=1)


def _other_in_a_batch(vectors: NDArray[np.float32], rows: int | None) -> NDArray[np.float32]:
    return vectors if rows == 1 else vectors + np.float32(1e-3)


@pytest.mark.parametrize("fault", [_turned, _other_in_a_batch])
def test_images_that_differ(
    added: LocalModel, monkeypatch: pytest.MonkeyPatch, fault: Callable[..., NDArray[np.float32]]
) -> None:
    """Nothing is written, though the texts are right."""
    real = ImageGraph.run

    def wrong(self: ImageGraph, pixels: NDArray[np.uint8], *, max_rows: int | None = None) -> NDArray[np.float32]:
        return fault(real(self, pixels, max_rows=max_rows), max_rows)

    monkeypatch.setattr(ImageGraph, "run", wrong)
    before = files(added.folder)
    with pytest.raises(CheckpointError, match=r"lowest cosine .* images.*promised are 0.99999"):
        provisioning.compile_model(added, precision="f32")
    assert files(added.folder) == before


def test_changed_graph_for_images(tmp_path: Path) -> None:
    """It is verified with the rest of what runs, for texts alone, too."""
    folder = shutil.copytree(compiled.dual_encoder().folder, tmp_path / "clip")
    path = folder / "openvino" / "images.bin"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(IntegrityError, match=r"images\.bin"):
        HuggingFaceEmbeddings(model_name=str(folder))


def test_other_vectors_of_images_than_when_it_was_compiled(tmp_path: Path) -> None:
    """An image is looked at in every load, as texts are."""
    folder = shutil.copytree(compiled.dual_encoder().folder, tmp_path / "clip")
    manifest = Manifest.read(folder)
    assert manifest is not None
    assert manifest.compiled is not None
    encoder = HuggingFaceEmbeddings(model_name=str(folder))._loaded.encoder
    assert encoder.probe_vectors.shape == (3, dual_encoders.DIMENSION)
    turned = golden.record(encoder.probe_vectors * np.array([[1], [1], [-1]], dtype=np.float32))
    changed = manifest.compiled.model_copy(update={"golden": turned})
    manifest.model_copy(update={"compiled": changed}).write(folder)
    with pytest.raises(CheckpointError, match="other vectors"):
        HuggingFaceEmbeddings(model_name=str(folder))


@pytest.mark.parametrize("make", [dual_encoders.clip, dual_encoders.siglip])
def test_golden_pictures(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """Different for the model, the same on every machine, in whatever form it reads them."""
    preparation = ImagePreparation.read(make(tmp_path / "source"))
    pixels = golden_pixels(preparation)
    assert pixels.shape[1:] == (*preparation.shape, 3)
    assert len(np.unique(pixels, axis=0)) == len(pixels)
    assert np.array_equal(pixels, golden_pixels(preparation))
