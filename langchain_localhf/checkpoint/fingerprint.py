"""The fingerprint: which vector space a model writes documents into.

Two models have the same fingerprint when the same bytes turn documents into vectors in the same way. The name, the
commit, the device, the precision of the arithmetic and the batch size are not part of it: they do not move a vector
beyond rounding. Settings of queries are not part of it either: they do not change what a collection holds.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from langchain_localhf.store import files as model_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langchain_localhf.checkpoint.checkpoint import Checkpoint

_VERSION = 1
# Settings that cannot change a vector beyond rounding. Whatever is not listed here counts.
_NEUTRAL_MODEL_SETTINGS = {
    "backend", "cache_folder", "device", "local_files_only", "model_card_data", "revision", "similarity_fn_name",
    "token", "trust_remote_code", "use_auth_token", "prompts", "default_prompt_name",
}  # fmt: skip
_NEUTRAL_LOADING_SETTINGS = {
    "attn_implementation",
    "device_map",
    "dtype",
    "low_cpu_mem_usage",
    "torch_dtype",
    "use_safetensors",
}
_NEUTRAL_ENCODE_SETTINGS = {
    "batch_size", "chunk_size", "convert_to_numpy", "convert_to_tensor", "device", "pool", "prompt", "prompt_name",
    "show_progress_bar",
}  # fmt: skip
_DEFAULTS = {"normalize_embeddings": False, "output_value": "sentence_embedding", "precision": "float32"}
_DOCUMENT_PROMPT_NAMES = ("document", "passage", "corpus")


def fingerprint(
    checkpoint: Checkpoint,
    hashes: Mapping[str, str],
    *,
    pooling: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    encode_kwargs: Mapping[str, Any] | None = None,
) -> str:
    """The fingerprint of a model with its settings, as 64 hexadecimal digits.

    Args:
        checkpoint: The model.
        hashes: The sha256 of its files, by path; files that cannot change a vector may be among them.
        pooling: The pooling that the user stated, or None.
        model_kwargs: What `SentenceTransformer(...)` is called with.
        encode_kwargs: What documents are encoded with.
    """
    model_settings = _without(model_kwargs or {}, _NEUTRAL_MODEL_SETTINGS)
    if nested := model_settings.pop("model_kwargs", None):
        model_settings["model_kwargs"] = _without(nested, _NEUTRAL_LOADING_SETTINGS)
    encode_settings = _without(encode_kwargs or {}, _NEUTRAL_ENCODE_SETTINGS)
    truncated = (model_settings | encode_settings).get("truncate_dim") is not None
    if checkpoint.normalizes and not truncated:
        encode_settings.pop("normalize_embeddings", None)  # already done, changes nothing
    identity = {
        "version": _VERSION,
        "files": {path: hashes[path] for path in shaping_files(checkpoint, hashes)},
        "pooling": pooling,
        "model": _stated(model_settings),
        "encode": _stated(encode_settings),
        "document_prompt": document_prompt(checkpoint, model_kwargs or {}, encode_kwargs or {}),
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def shaping_files(checkpoint: Checkpoint, paths: Iterable[str]) -> list[str]:
    """The files among `paths` whose content can change a vector; code is among them if the model runs it."""
    known = list(paths)
    code = [path for path in known if model_files.is_code(path)] if checkpoint.foreign_code() else []
    return sorted([*model_files.shape_vectors(known), *code])


def document_prompt_name(checkpoint: Checkpoint, model_kwargs: Mapping[str, Any]) -> str | None:
    """The name of the prompt that the model or the user states for documents, or None.

    `SentenceTransformer.encode_document` takes the first of `document`, `passage` and `corpus` that is there. From
    version 6 on an empty `document` always is, and is saved with the model, so that it hides a `passage` that someone
    wrote. So an empty prompt of the checkpoint states nothing; one that the user gives does.
    """
    given = model_kwargs.get("prompts") or {}
    saved = {name: text for name, text in checkpoint.prompts.items() if text}
    return next((name for stated in (given, saved) for name in _DOCUMENT_PROMPT_NAMES if name in stated), None)


def document_prompt(checkpoint: Checkpoint, model_kwargs: Mapping[str, Any], encode_kwargs: Mapping[str, Any]) -> str:
    """The text that is put before every document; empty for none."""
    if encode_kwargs.get("prompt") is not None:
        return str(encode_kwargs["prompt"])
    name = encode_kwargs.get("prompt_name") or document_prompt_name(checkpoint, model_kwargs)
    prompts = {**checkpoint.prompts, **(model_kwargs.get("prompts") or {})}
    return str(prompts.get(name, "")) if name else ""


def _without(settings: Mapping[str, Any], neutral: set[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in neutral}


def _stated(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say something: not None, not empty, not the default."""
    return {
        key: value for key, value in settings.items() if value not in (None, {}, []) and _DEFAULTS.get(key) != value
    }
