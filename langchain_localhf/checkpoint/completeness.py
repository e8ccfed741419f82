"""Whether the files of each part of a model are there: a loader fills in what is missing, and rarely says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_localhf.checkpoint.modules import PULL_AGAIN, read_json, read_pooling
from langchain_localhf.checkpoint.weights import read_headers
from langchain_localhf.errors import CheckpointError, IncompleteModelError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from langchain_localhf.checkpoint.modules import Module

_TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
    "spm.model", "vocab.model", "tekken.json",
)  # fmt: skip
_IMAGE_FILES = ("preprocessor_config.json", "processor_config.json")


def require_module_files(folder: Path, parts: Iterable[Module]) -> None:
    """Checks the parts of a sentence-transformers model other than its transformers.

    Args:
        folder: The model's folder.
        parts: The parts.

    Raises:
        IncompleteModelError: A file is missing.
        CheckpointError: A file is damaged.
    """
    parts = tuple(parts)
    needed = [part.configuration for part in parts if part.configuration]
    needed += [f"{part.path}/model.safetensors".lstrip("/") for part in parts if part.has_own_weights]
    missing = [path for path in needed if not (folder / path).is_file()]
    if missing:
        msg = f"files that modules.json asks for are missing in {folder}: {', '.join(missing)}"
        raise IncompleteModelError(msg, missing=missing, hint=PULL_AGAIN)
    for part in parts:
        if part.has_own_weights:
            read_headers(folder / part.path)
        if part.class_name == "Pooling" and part.configuration:
            path = folder / part.configuration
            if not read_pooling(path):
                msg = f"{path} names no pooling mode"
                raise IncompleteModelError(msg, missing=(part.configuration,), hint=PULL_AGAIN)


def require_transformer_files(folder: Path, *, reads_images: bool = False) -> None:
    """Checks a folder with a model of transformers.

    Args:
        folder: The folder.
        reads_images: Whether the model is a dual encoder, and needs to be told how to prepare images.

    Raises:
        IncompleteModelError: A file is missing.
        CheckpointError: A file is damaged.
        UnsupportedModelError: The weights are those of an adapter only.
    """
    if (folder / "adapter_config.json").is_file():
        msg = f"{folder} is an adapter, which needs the weights of another repository"
        raise UnsupportedModelError(msg, hint="merge it into its base model with peft's merge_and_unload(), and save")
    if not (folder / "config.json").is_file():
        msg = f"config.json is missing in {folder}"
        raise IncompleteModelError(msg, missing=("config.json",), hint=PULL_AGAIN)
    if not isinstance(read_json(folder / "config.json").get("model_type"), str):
        msg = f"{folder / 'config.json'} has no model_type, so transformers would guess the model from its path"
        raise CheckpointError(msg, hint=PULL_AGAIN)
    if not read_headers(folder):
        msg = f"there are no weights in {folder}: neither model.safetensors nor model.safetensors.index.json"
        raise IncompleteModelError(msg, missing=("model.safetensors",), hint=PULL_AGAIN)
    if reads_images:
        _require_processor_files(folder)
    if not _has_tokenizer(folder):
        msg = (
            f"there are no tokenizer files in {folder}; transformers would load a tokenizer that knows no word "
            "and every text would get nearly the same vector"
        )
        raise IncompleteModelError(msg, missing=("tokenizer.json",), hint=PULL_AGAIN)
    tokenizer = folder / "tokenizer.json"
    if tokenizer.is_file():
        read_json(tokenizer)


def _require_processor_files(folder: Path) -> None:
    """Checks that what prepares texts and images lies beside the weights, and not in a folder of its own."""
    if any((folder / name).is_file() for name in _IMAGE_FILES):
        return
    missing = [_IMAGE_FILES[0]] if _has_tokenizer(folder) else [_IMAGE_FILES[0], "tokenizer.json"]
    msg = f"{folder} holds a model for images, but nothing says how to prepare one: {_IMAGE_FILES[0]} is missing"
    hint = PULL_AGAIN
    beside = next((path.parent for name in _IMAGE_FILES for path in sorted(folder.parent.glob(f"*/{name}"))), None)
    if beside is not None and len(missing) > 1:
        hint = f"the processor was saved apart from the model; copy the files of {beside} into {folder}"
    raise IncompleteModelError(msg, missing=missing, hint=hint)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _TOKENIZER_FILES)
