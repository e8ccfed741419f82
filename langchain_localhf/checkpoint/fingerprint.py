"""The fingerprint: which vector space a model writes documents into.

Two models have the same fingerprint when the same bytes turn documents into vectors in the same way. The name, the
commit, the device, the precision of the arithmetic and the batch size are not part of it: they do not move a vector
beyond rounding. Settings of queries are not part of it either: they do not change what a collection holds.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from langchain_localhf.checkpoint.prompts import prompt_for
from langchain_localhf.store import files as model_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langchain_localhf.checkpoint.checkpoint import Checkpoint

_VERSION = 1
# Settings that cannot change a vector beyond rounding. Whatever is not listed here counts.
_NEUTRAL_MODEL_SETTINGS = {
    "backend", "cache_folder", "device", "local_files_only", "model_card_data", "revision", "similarity_fn_name",
    "token", "trust_remote_code", "use_auth_token", "prompts", "default_prompt_name", "ov_config",
}  # fmt: skip
_NEUTRAL_LOADING_SETTINGS = {
    "attn_implementation",
    "device",
    "device_map",
    "dtype",
    "low_cpu_mem_usage",
    "ov_config",
    "torch_dtype",
    "use_safetensors",
}
_NEUTRAL_ENCODE_SETTINGS = {
    "batch_size", "chunk_size", "convert_to_numpy", "convert_to_tensor", "device", "pool", "prompt", "prompt_name",
    "show_progress_bar",
}  # fmt: skip
_DEFAULTS = {"normalize_embeddings": False, "output_value": "sentence_embedding", "precision": "float32"}


def fingerprint(
    checkpoint: Checkpoint,
    hashes: Mapping[str, str],
    *,
    pooling: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    encode_kwargs: Mapping[str, Any] | None = None,
    quantized: str | None = None,
) -> str:
    """The fingerprint of a model with its settings, as 64 hexadecimal digits.

    Args:
        checkpoint: The model.
        hashes: The sha256 of its files, by path; files that cannot change a vector may be among them.
        pooling: The pooling that the user stated, or None.
        model_kwargs: What `SentenceTransformer(...)` is called with.
        encode_kwargs: What documents are encoded with.
        quantized: The sha256 of the quantized weights that run in the place of the model's own, or None.
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
        "document_prompt": prompt_for("document", checkpoint, model_kwargs or {}, encode_kwargs or {}),
    }
    if quantized:
        identity["quantized"] = quantized
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def shaping_files(checkpoint: Checkpoint, paths: Iterable[str]) -> list[str]:
    """The files among `paths` whose content can change a vector; code is among them if the model runs it."""
    known = list(paths)
    code = [path for path in known if model_files.is_code(path)] if checkpoint.foreign_code() else []
    return sorted([*model_files.shape_vectors(known), *code])


def _without(settings: Mapping[str, Any], neutral: set[str]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in neutral}


def _stated(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say something: not None, not empty, not the default."""
    return {
        key: value for key, value in settings.items() if value not in (None, {}, []) and _DEFAULTS.get(key) != value
    }
