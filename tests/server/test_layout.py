"""Which model of a folder is for what, as in Weaviate's containers."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from support import checkpoints, dual_encoders

from langchain_localhf.errors import IncompleteModelError, InputError, ModelNotFoundError, UnsupportedModelError
from langchain_localhf.loading import load_encoder
from langchain_localhf.server.layout import models_in

if TYPE_CHECKING:
    from pathlib import Path


def put(folder: Path, *names: str) -> None:
    """Folders that are looked at by name only."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(f'{{"name": "{name}"}}', encoding="utf-8")


def found(folder: Path) -> dict[str, str]:
    """What is found, with names in place of paths."""
    models = models_in(folder)
    assert all(path == f"{folder}/{path.rpartition('/')[2]}" for path in models.values())
    return {use: path.rpartition("/")[2] for use, path in models.items()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["clip"], {"clip": "clip"}),
        (["clip", "text"], {"clip": "clip", "clip_text": "text"}),
        (["text"], {"text": "text"}),
        (["openai_clip"], {"clip": "openai_clip"}),
        (["siglip"], {"clip": "siglip"}),
        (["openai_clip", "siglip", "clip", "text"], {"clip": "openai_clip"}),
        (["siglip", "clip", "text"], {"clip": "siglip"}),
        (["reranker"], {"rerank": "reranker"}),
        (["clip", "text", "reranker"], {"clip": "clip", "clip_text": "text", "rerank": "reranker"}),
        (["clip", "another"], {"clip": "clip"}),
    ],
)
def test_names_say_what_a_model_is_for(tmp_path: Path, names: list[str], expected: dict[str, str]) -> None:
    """As in the container for images: the first kind that is there counts."""
    put(tmp_path, *names)
    assert found(tmp_path) == expected


@pytest.mark.parametrize("way", ["copied", "linked"])
def test_the_same_model_twice_is_one(tmp_path: Path, way: str) -> None:
    """`TEXT_MODEL_NAME` and `CLIP_MODEL_NAME` with one name need the memory of one model."""
    dual_encoders.st_clip(tmp_path / "clip")
    if way == "copied":
        shutil.copytree(tmp_path / "clip", tmp_path / "text")
    else:
        (tmp_path / "text").symlink_to("clip")
    assert found(tmp_path) == {"clip": "clip"}


def test_models_of_the_same_size_are_two(tmp_path: Path) -> None:
    """What counts is the content."""
    dual_encoders.st_clip(tmp_path / "clip")
    shutil.copytree(tmp_path / "clip", tmp_path / "text")
    checkpoints.flip_byte(tmp_path / "text" / "0_CLIPModel" / "model.safetensors")
    assert found(tmp_path) == {"clip": "clip", "clip_text": "text"}


def test_a_model_is_told_by_its_checkpoint(tmp_path: Path) -> None:
    """`model` is what text2vec-transformers and the reranker call theirs; both kinds of cross-encoder are known."""
    put(tmp_path, "clip")
    checkpoints.sentence_transformer(tmp_path / "model")
    assert found(tmp_path) == {"clip": "clip", "text": "model"}
    for make in (checkpoints.cross_encoder, checkpoints.classifier):
        shutil.rmtree(tmp_path / "model")
        make(tmp_path / "model")
        assert found(tmp_path) == {"clip": "clip", "rerank": "model"}


@pytest.mark.parametrize(("other", "use"), [("text", "text"), ("reranker", "rerank")])
def test_two_for_the_same_are_refused(tmp_path: Path, other: str, use: str) -> None:
    """Neither is dropped silently."""
    put(tmp_path, other)
    make = checkpoints.sentence_transformer if use == "text" else checkpoints.cross_encoder
    make(tmp_path / "model")
    with pytest.raises(InputError, match=f"/{other} and .*/model are both for '{use}'|/model and .*/{other} are both"):
        models_in(tmp_path)


def test_no_model(tmp_path: Path) -> None:
    """The error names the folders that were looked for."""
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelNotFoundError, match="none of openai_clip, siglip, clip, text, model, reranker"):
        models_in(tmp_path)


@pytest.mark.parametrize("name", ["openclip", "colpali_engine_model"])
def test_kinds_that_are_not_run(tmp_path: Path, name: str) -> None:
    """A folder that the container would serve is not passed over."""
    put(tmp_path, name, "clip")
    with pytest.raises(UnsupportedModelError, match=f"{name} is not run here"):
        models_in(tmp_path)


def test_a_processor_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """The container saves it apart; the hint is the command that puts both together, and then it loads."""
    whole = dual_encoders.clip(tmp_path / "openai_clip")
    apart = tmp_path / "openai_clip_processor"
    apart.mkdir()
    for path in whole.iterdir():
        if path.name not in {"config.json", "model.safetensors"}:
            path.rename(apart / path.name)
    with pytest.raises(IncompleteModelError, match="lie apart from it") as caught:
        models_in(tmp_path)
    hint = caught.value.hint or ""
    assert hint == f"put them together once: cp {apart}/* {whole}/"
    assert os.system(hint.partition(": ")[2]) == 0  # noqa: S605 - the command that the user is told
    assert found(tmp_path) == {"clip": "openai_clip"}
    assert load_encoder(models_in(tmp_path)["clip"]).encoder.dimension == dual_encoders.DIMENSION
