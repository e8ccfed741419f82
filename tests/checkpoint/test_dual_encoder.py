"""Dual encoders, told from their files."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from support import checkpoints, dual_encoders
from support.checkpoints import edit_json

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.checkpoint.fingerprint import fingerprint
from langchain_localhf.errors import IncompleteModelError, UnsafeModelError, UnsupportedModelError
from langchain_localhf.store.manifest import describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_BUILDERS = [dual_encoders.clip, dual_encoders.siglip, dual_encoders.st_clip, dual_encoders.st_clip_saved_anew]


def _fingerprint(folder: Path) -> str:
    checkpoint = Checkpoint.read(folder)
    hashes = {entry.path: entry.sha256 for entry in describe(folder, checkpoint.files)}
    return fingerprint(checkpoint, hashes)


class TestKind:
    """What is a dual encoder."""

    @pytest.mark.parametrize("build", _BUILDERS)
    def test_every_form_that_exists(self, build: Callable[[Path], Path], tmp_path: Path) -> None:
        """Each states itself how a vector is made, and is complete."""
        folder = build(tmp_path / "model")
        checkpoint = Checkpoint.read(folder)
        checkpoint.require_trust()
        checkpoint.require_encoder()
        assert checkpoint.is_encoder
        assert not checkpoint.is_cross_encoder
        assert checkpoint.image_folder == (folder / "0_CLIPModel" if build is dual_encoders.st_clip else folder)
        assert checkpoint.pooling == ()

    def test_other_models(self, tiny: Path, tmp_path: Path) -> None:
        """They read texts only, and a plain one does not state its pooling."""
        assert Checkpoint.read(tiny).image_folder is None
        assert Checkpoint.read(dual_encoders.text_tower(tmp_path / "tower")).image_folder is None
        plain = Checkpoint.read(checkpoints.plain(tmp_path / "plain"))
        assert (plain.image_folder, plain.is_encoder) == (None, False)

    @pytest.mark.parametrize("build", [dual_encoders.clip, dual_encoders.siglip])
    def test_pooling_is_not_asked_for(self, build: Callable[[Path], Path], tmp_path: Path) -> None:
        """Stating one is a contradiction."""
        with pytest.raises(UnsupportedModelError, match="makes one vector itself"):
            Checkpoint.read(build(tmp_path / "model")).require_encoder(pooling="mean")

    @pytest.mark.parametrize("model_type", ["clip_text_model", "clip_vision_model", "siglip_text_model"])
    @pytest.mark.parametrize("pooling", [None, "cls"])
    def test_one_half(self, model_type: str, pooling: str | None, tmp_path: Path) -> None:
        """A text or vision tower alone is refused, and the hint names the whole."""
        folder = dual_encoders.clip(tmp_path / "clip")
        edit_json(folder / "config.json", model_type=model_type)
        with pytest.raises(UnsupportedModelError, match="one half of a dual encoder") as caught:
            Checkpoint.read(folder).require_encoder(pooling=pooling)
        assert repr(model_type.partition("_")[0]) in str(caught.value.hint)

    @pytest.mark.parametrize("model_type", ["align", "siglip2", "blip"])
    @pytest.mark.parametrize("pooling", [None, "mean"])
    def test_kinds_that_are_not_known(self, model_type: str, pooling: str | None, tmp_path: Path) -> None:
        """They are refused by their name, whatever the user states."""
        folder = dual_encoders.clip(tmp_path / "clip")
        edit_json(folder / "config.json", model_type=model_type)
        with pytest.raises(UnsupportedModelError, match=model_type):
            Checkpoint.read(folder).require_encoder(pooling=pooling)


class TestComplete:
    """What has to be there."""

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "preprocessor_config.json"])
    @pytest.mark.parametrize("build", [dual_encoders.clip, dual_encoders.siglip, dual_encoders.st_clip])
    def test_a_missing_file(self, build: Callable[[Path], Path], name: str, tmp_path: Path) -> None:
        """It is named; transformers would take defaults, or fail in its own words."""
        folder = build(tmp_path / "model")
        next(folder.rglob(name)).unlink()
        with pytest.raises(IncompleteModelError, match=name.replace(".", r"\.")) as caught:
            Checkpoint.read(folder).require_encoder()
        assert caught.value.missing == (name,)

    def test_a_missing_tokenizer(self, tmp_path: Path) -> None:
        """It is missed in the folder of the module, too."""
        folder = dual_encoders.st_clip(tmp_path / "model")
        for name in ("vocab.json", "merges.txt"):
            (folder / "0_CLIPModel" / name).unlink()
        with pytest.raises(IncompleteModelError, match="no tokenizer files"):
            Checkpoint.read(folder).require_encoder()

    def test_the_processor_in_another_folder(self, tmp_path: Path) -> None:
        """As some containers lay it out; the hint says what to copy where, and helps."""
        folder = dual_encoders.clip(tmp_path / "openai_clip")
        processor = tmp_path / "openai_clip_processor"
        processor.mkdir()
        for name in ("preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.move(folder / name, processor / name)
        with pytest.raises(IncompleteModelError) as caught:
            Checkpoint.read(folder).require_encoder()
        assert caught.value.missing == ("preprocessor_config.json", "tokenizer.json")
        assert f"copy the files of {processor} into {folder}" in str(caught.value.hint)
        shutil.copytree(processor, folder, dirs_exist_ok=True)
        Checkpoint.read(folder).require_encoder()

    @pytest.mark.parametrize("build", [dual_encoders.clip, dual_encoders.st_clip])
    def test_pickled_weights(self, build: Callable[[Path], Path], tmp_path: Path) -> None:
        """They are refused as anywhere else."""
        folder = build(tmp_path / "model")
        weights = next(folder.rglob("model.safetensors"))
        weights.rename(weights.with_name("pytorch_model.bin"))
        with pytest.raises(UnsafeModelError, match="pickle"):
            Checkpoint.read(folder).require_encoder()

    @pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
    def test_code_beside_the_module(self, name: str, tmp_path: Path) -> None:
        """A file in the folder of the module names no class of the repository without trust."""
        folder = dual_encoders.st_clip(tmp_path / "model")
        auto_class = "AutoModel" if name == "config.json" else "AutoImageProcessor"
        edit_json(folder / "0_CLIPModel" / name, auto_map={auto_class: "own.Own"})
        with pytest.raises(UnsafeModelError, match=r"own\.Own"):
            Checkpoint.read(folder).require_trust()


@pytest.mark.parametrize("build", _BUILDERS)
@pytest.mark.parametrize("change", [{"image_mean": [0.1, 0.2, 0.3]}, {"resample": 2}])
def test_images_are_part_of_the_fingerprint(
    build: Callable[[Path], Path], change: dict[str, Any], tmp_path: Path
) -> None:
    """Another way to prepare an image makes other vectors."""
    folder = build(tmp_path / "model")
    before = _fingerprint(folder)
    paths = [*folder.rglob("preprocessor_config.json"), *folder.rglob("processor_config.json")]
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    content.get("image_processor", content).update(change)
    paths[0].write_text(json.dumps(content), encoding="utf-8")
    assert _fingerprint(folder) != before
