"""Texts to vectors with a compiled graph: without torch, and without transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_localhf.checkpoint.prompts import prompt_for
from langchain_localhf.engines.base import PROBE_TEXTS
from langchain_localhf.engines.openvino.graph import Graph
from langchain_localhf.errors import InputError, UnsupportedModelError
from langchain_localhf.store.compilation import COMPILED_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.engines.base import InputKind
    from langchain_localhf.engines.traceable import Traceable

_TINY = np.finfo(np.float32).tiny
_BINARY = {"binary": np.int8, "ubinary": np.uint8}
# What sentence-transformers' `encode` takes; the second row is about where and in what the result lies.
_SHAPING = {"prompt", "prompt_name", "normalize_embeddings", "truncate_dim", "precision", "output_value"}
_NEUTRAL = {"batch_size", "show_progress_bar", "convert_to_numpy", "convert_to_tensor", "device", "pool", "chunk_size"}


class OpenVINOEncoder:
    """An embedding model as one OpenVINO graph; see `langchain_localhf.engines.base.Encoder`.

    Args:
        checkpoint: What the model's files say.
        model_kwargs: What the user said about loading, already known to be possible with a graph.
        folder: The folder with the graph, if it is not in its place yet.
        precision: Another precision than the graph was compiled for.

    Raises:
        CheckpointError: The graph is damaged.
        DeviceUnavailableError: There is no such device on this machine.
        InputError: OpenVINO does not know a setting.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        model_kwargs: Mapping[str, Any],
        folder: Path | None = None,
        precision: str | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._model_kwargs = model_kwargs
        self._graph = Graph(
            folder or checkpoint.folder / COMPILED_FOLDER,
            model_kwargs=model_kwargs,
            precision=precision,
        )
        self.max_seq_length = self._graph.settings.max_tokens
        self.versions = self._graph.versions
        self.unused_weights: tuple[str, ...] = ()
        self.probe_vectors = self.encode(PROBE_TEXTS, kind="document", encode_kwargs={}).astype(np.float32, copy=False)
        self.dimension = int(self.probe_vectors.shape[1])

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: InputKind,
        encode_kwargs: Mapping[str, Any],
        show_progress: bool = False,
        multi_process: bool = False,  # noqa: ARG002 - one graph already uses every core
    ) -> NDArray[np.number[Any]]:
        """Embeds texts; see `langchain_localhf.engines.base.Encoder.encode`.

        Raises:
            InputError: A setting is unknown, or cannot be used with a compiled graph.
        """
        _check(encode_kwargs)
        prompt = prompt_for(kind, self._checkpoint, self._model_kwargs, encode_kwargs)
        vectors = self._graph.run(
            [prompt + text for text in texts] if prompt else texts,
            route=kind,
            max_rows=encode_kwargs.get("batch_size"),
            show_progress=bool(encode_kwargs.get("show_progress_bar", show_progress)),
        )
        dimension = encode_kwargs.get("truncate_dim") or self._model_kwargs.get("truncate_dim")
        vectors = vectors[:, :dimension]
        if encode_kwargs.get("normalize_embeddings"):
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
        return _in_precision(vectors, encode_kwargs.get("precision") or "float32")

    def traceable(self, *, eager_attention: bool = False) -> Traceable:  # noqa: ARG002 - refused in any case
        """Refuses: what is compiled already cannot be traced again.

        Raises:
            UnsupportedModelError: Always.
        """
        raise UnsupportedModelError("a compiled graph cannot be compiled again", hint="compile the model itself")

    def close(self) -> None:
        """Does nothing: there are no processes to stop."""


def _check(encode_kwargs: Mapping[str, Any]) -> None:
    known = _SHAPING | _NEUTRAL
    for name, value in encode_kwargs.items():
        if name not in known:
            msg = f"a compiled graph cannot encode with {name}={value!r}"
            raise InputError(msg, hint='leave it out, or use backend="torch"')
    if encode_kwargs.get("output_value", "sentence_embedding") != "sentence_embedding":
        msg = "these encode_kwargs do not give one vector a text"
        raise InputError(msg, hint='leave out "output_value"')


def _in_precision(vectors: NDArray[np.float32], precision: str) -> NDArray[np.number[Any]]:
    """Vectors as they are, or one bit a component, as `sentence_transformers.quantize_embeddings` packs them."""
    if precision == "float32":
        return vectors
    if precision not in _BINARY:
        raise InputError(f"there is no precision {precision!r}", hint='use "float32", "binary" or "ubinary"')
    bits = np.packbits(vectors > 0, axis=1)
    return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
