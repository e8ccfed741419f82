"""A folder of models as in Weaviate's inference containers, where the name of a folder says what its model is for.

| folder | model |
| --- | --- |
| `openai_clip`, `siglip` | a CLIP, a SigLIP, as transformers saves them |
| `clip`, `text` | what reads images, and what reads the texts for them; without `clip`, `text` is for texts alone |
| `model` | an embedding model for texts, or a cross-encoder |
| `reranker` | a cross-encoder, beside a `model` for texts |

The first three do not go together; as there, the first one counts.
"""

from __future__ import annotations

import filecmp
from typing import TYPE_CHECKING

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.errors import IncompleteModelError, InputError, ModelNotFoundError, UnsupportedModelError
from langchain_localhf.store.files import files_in

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = ("openai_clip", "siglip", "clip", "text", "model", "reranker")
_PROCESSOR = "openai_clip_processor"
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
# What the containers run with libraries that are not used here.
_NOT_RUN = {
    "openclip": "use the same model as transformers saves it, in openai_clip",
    "colpali_engine_model": "use a CLIP or SigLIP model",
}


def models_in(folder: Path) -> dict[str, str]:
    """Finds out which models a folder holds, and what for; no weights are loaded.

    Args:
        folder: The folder, such as `/app/models`.

    Returns:
        The folder of each model, by its name in `ServerSettings`.

    Raises:
        ModelNotFoundError: There is no model.
        IncompleteModelError: A part of one lies elsewhere, or is missing.
        InputError: Two folders hold models for the same.
        UnsupportedModelError: One is for a library that is not used here.
    """
    found = {name: folder / name for name in _NAMES if (folder / name).is_dir()}
    _refuse_foreign(folder)
    if not found:
        msg = f"there is no model in {folder}: none of {', '.join(_NAMES)} is a folder there"
        raise ModelNotFoundError(msg, looked_in=[str(folder)], hint="see docs/guides/weaviate.md for what goes where")
    return {use: str(path) for use, path in {**_dual_encoder(found), **_others(found)}.items()}


def _dual_encoder(found: dict[str, Path]) -> dict[str, Path]:
    if "openai_clip" in found:
        _require_processor(found["openai_clip"])
    for name in ("openai_clip", "siglip"):
        if name in found:
            return {"clip": found[name]}
    if "clip" not in found:
        return {}
    images, texts = found["clip"], found.get("text")
    return {"clip": images} if texts is None or _is_same(images, texts) else {"clip": images, "clip_text": texts}


def _others(found: dict[str, Path]) -> dict[str, Path]:
    uses = {"reranker": "rerank"}
    if "model" in found:
        uses["model"] = "rerank" if Checkpoint.read(found["model"]).is_cross_encoder else "text"
    if "text" in found and not found.keys() & {"openai_clip", "siglip", "clip"}:
        uses["text"] = "text"
    others: dict[str, Path] = {}
    for name, use in uses.items():
        if name not in found:
            continue
        if use in others:
            msg = f"{others[use]} and {found[name]} are both for {use!r}, and a server has one model for that"
            raise InputError(msg, hint="remove one of the two folders")
        others[use] = found[name]
    return others


def _refuse_foreign(folder: Path) -> None:
    for name, hint in _NOT_RUN.items():
        if (folder / name).is_dir():
            raise UnsupportedModelError(f"the kind of model in {folder / name} is not run here", hint=hint)


def _require_processor(model: Path) -> None:
    """Checks that what prepares texts and images is in the model's folder, where nothing has to be put together."""
    apart = model.with_name(_PROCESSOR)
    if apart.is_dir() and not any((model / name).is_file() for name in _PROCESSOR_FILES):
        msg = f"the files that prepare texts and images for {model} lie apart from it, in {apart}"
        hint = f"put them together once: cp {apart}/* {model}/"
        raise IncompleteModelError(msg, missing=_PROCESSOR_FILES[:1], hint=hint)


def _is_same(one: Path, other: Path) -> bool:
    """Whether two folders hold the same model, so that one in memory is enough."""
    if one.samefile(other):
        return True
    paths = files_in(one)
    if paths != files_in(other) or any((one / path).stat().st_size != (other / path).stat().st_size for path in paths):
        return False
    return all(filecmp.cmp(one / path, other / path, shallow=False) for path in paths)
