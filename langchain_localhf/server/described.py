"""What a server says about its models: from memory, so that the question is answered whatever they are doing."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from langchain_localhf.loaded import LoadedScorer

if TYPE_CHECKING:
    from langchain_localhf.loaded import LoadedEncoder
    from langchain_localhf.server.models import Models

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def described(models: Models) -> dict[str, Any]:
    """The package's version, and what each model is, by what it is for."""
    lanes = {"text": models.texts, "clip_text": models.clip_texts, "image": models.images, "rerank": models.pairs}
    return {
        "version": version("langchain-localhf"),
        "models": {role: facts(lane.loaded) for role, lane in lanes.items() if lane is not None},
    }


def facts(loaded: LoadedEncoder | LoadedScorer) -> dict[str, Any]:
    """What one model is."""
    engine = loaded.scorer if isinstance(loaded, LoadedScorer) else loaded.encoder
    manifest = loaded.model.manifest
    known = {
        "name": loaded.model.name,
        "revision": manifest.commit if manifest else None,
        "fingerprint": loaded.fingerprint(),
        "engine": "openvino" if loaded.is_compiled else "torch",
        "dtype": dtype(loaded),
        "max_tokens": engine.max_seq_length,
    }
    return known if isinstance(loaded, LoadedScorer) else {**known, "dimension": loaded.encoder.dimension}


def dtype(loaded: LoadedEncoder | LoadedScorer) -> str:
    """What the model's weights are in; for a compiled one, the precision that it was compiled for."""
    manifest = loaded.model.manifest
    if loaded.is_compiled and manifest and manifest.compiled:
        precision = manifest.compiled.precision
        return _DTYPES.get(precision.upper(), precision)
    stored = (_DTYPES.get(header.dtype) for header in loaded.checkpoint.tensors.values())
    return next((known for known in stored if known), "float32")
