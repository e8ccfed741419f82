"""Dual encoders in the store: added, checked with a text and an image, verified, and found by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support import dual_encoders
from support.checkpoints import edit_weights, without

from langchain_localhf import HuggingFaceEmbeddings, provisioning
from langchain_localhf.errors import IntegrityError, UninitializedWeightsError, UnsafeModelError
from langchain_localhf.loading import load_encoder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fake_hub import FakeHub

pytestmark = pytest.mark.loopback

_BUILDERS = [dual_encoders.clip, dual_encoders.siglip, dual_encoders.st_clip, dual_encoders.st_clip_saved_anew]
_TEXTS = ["the weather is nice", "a ship sails at dawn"]


@pytest.mark.parametrize("build", _BUILDERS)
def test_added_and_found_by_name(build: Callable[[Path], Path], tmp_path: Path, store_home: Path) -> None:
    """The manifest says what the model is, and the store's copy gives the vectors of the folder."""
    folder = build(tmp_path / "model")
    added = provisioning.add(folder, "org/clip")
    assert added.folder == store_home / "org/clip"
    assert not provisioning.verify("org/clip")
    manifest = added.manifest
    assert manifest is not None
    assert manifest.encoder is not None
    assert manifest.check is not None
    facts = manifest.encoder
    tokens = dual_encoders.SIGLIP_TOKENS if build is dual_encoders.siglip else dual_encoders.CLIP_TOKENS
    assert (facts.dimension, facts.max_seq_length) == (dual_encoders.DIMENSION, tokens)
    assert (facts.pooling, facts.normalized) == ((), False)
    assert any(path.endswith("processor_config.json") for path in manifest.hashes)
    stored, direct = HuggingFaceEmbeddings(model="org/clip"), HuggingFaceEmbeddings(model=str(folder))
    assert stored.embed_documents(_TEXTS) == direct.embed_documents(_TEXTS)
    assert stored.fingerprint == manifest.fingerprint == direct.fingerprint


def test_images_from_the_store(tmp_path: Path) -> None:
    """A loaded model of the store reads images, too."""
    folder = dual_encoders.st_clip(tmp_path / "model")
    provisioning.add(folder, "org/clip")
    pixels = np.full((2, dual_encoders.IMAGE_SIZE, dual_encoders.IMAGE_SIZE, 3), 99, np.uint8)
    vectors = [load_encoder(name).encoder.encode_images(pixels, encode_kwargs={}) for name in ("org/clip", str(folder))]
    assert np.array_equal(*vectors)


@pytest.mark.parametrize("build", [dual_encoders.clip, dual_encoders.st_clip])
def test_without_a_tower(build: Callable[[Path], Path], tmp_path: Path, store_home: Path) -> None:
    """A model that reads texts well, and images at random, does not come in."""
    folder = build(tmp_path / "model")
    edit_weights(next(folder.rglob("model.safetensors")).parent, without("vision_model"))
    with pytest.raises(UninitializedWeightsError, match="vision_model"):
        provisioning.add(folder, "org/clip")
    assert not (store_home / "org/clip").exists()


def test_a_changed_preparation(tmp_path: Path) -> None:
    """The store notices that images would be prepared in another way."""
    stored = provisioning.add(dual_encoders.st_clip(tmp_path / "model"), "org/clip")
    path = stored.folder / "0_CLIPModel" / "preprocessor_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace("0.48145466", "0.58145466"), encoding="utf-8")
    with pytest.raises(IntegrityError, match="preprocessor_config"):
        load_encoder("org/clip")


def test_pulled(hub: FakeHub, tmp_path: Path) -> None:
    """A pull brings the files of every folder that is needed, and no pickle beside them."""
    folder = dual_encoders.st_clip(tmp_path / "model")
    (folder / "0_CLIPModel" / "pytorch_model.bin").write_bytes(b"pickle")
    hub.upload("sentence-transformers/clip-tiny", folder)
    [pulled] = provisioning.pull("clip-tiny")
    assert pulled.manifest is not None
    assert pulled.manifest.check is not None
    assert "0_CLIPModel/merges.txt" in pulled.manifest.hashes
    assert "0_CLIPModel/pytorch_model.bin" not in pulled.manifest.hashes
    assert len(HuggingFaceEmbeddings(model="clip-tiny").embed_query(_TEXTS[0])) == dual_encoders.DIMENSION


def test_pickle_only(hub: FakeHub, tmp_path: Path) -> None:
    """A CLIP whose weights are a pickle only is refused before anything is downloaded."""
    folder = dual_encoders.clip(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    hub.upload("org/pickled", folder)
    with pytest.raises(UnsafeModelError, match=r"pytorch_model\.bin"):
        provisioning.pull("org/pickled")
