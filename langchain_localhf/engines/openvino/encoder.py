"""Texts and images to vectors with compiled graphs: without torch, and without transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from langchain_localhf.checkpoint.prompts import prompt_for
from langchain_localhf.engines.base import PROBE_TEXTS
from langchain_localhf.engines.openvino.compiled_model import CompiledModel
from langchain_localhf.engines.openvino.image_graph import ImageGraph
from langchain_localhf.engines.openvino.settings import IMAGES_NAME
from langchain_localhf.errors import InputError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.engines.base import InputKind

_TINY = np.finfo(np.float32).tiny
_BINARY = {"binary": np.int8, "ubinary": np.uint8}
# What sentence-transformers' `encode` takes; the second row is about where and in what the result lies.
_SHAPING = {"prompt", "prompt_name", "normalize_embeddings", "truncate_dim", "precision", "output_value"}
_NEUTRAL = {"batch_size", "show_progress_bar", "convert_to_numpy", "convert_to_tensor", "device", "pool", "chunk_size"}


class OpenVINOEncoder(CompiledModel):
    """An embedding model as OpenVINO graphs, for texts and for images; see `langchain_localhf.engines.base.Encoder`.

    Arguments and errors are those of `CompiledModel`.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        model_kwargs: Mapping[str, Any],
        folder: Path | None = None,
        precision: str | None = None,
    ) -> None:
        super().__init__(checkpoint, model_kwargs=model_kwargs, folder=folder, precision=precision)
        self.image_preparation = self._graph.settings.images
        self._images: ImageGraph | None = None
        if self.image_preparation is not None:
            path = self._folder / f"{IMAGES_NAME}.xml"
            self._images = ImageGraph(path, self.image_preparation, self._graph.target)
        self.probe_vectors = self._probe()
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
        return self._shaped(vectors, encode_kwargs)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has; see `langchain_localhf.engines.base.Encoder.count_tokens`."""
        return self._graph.count_tokens(texts)

    def encode_images(self, pixels: NDArray[np.uint8], *, encode_kwargs: Mapping[str, Any]) -> NDArray[np.number[Any]]:
        """Embeds images; see `langchain_localhf.engines.base.Encoder.encode_images`.

        Raises:
            InputError: A setting is unknown, or cannot be used with a compiled graph, or the images are not prepared.
            EngineNotInstalledError: Pillow is not installed.
            UnsupportedModelError: The model reads texts only.
        """
        _check(encode_kwargs)
        if self._images is None:
            msg = f"{self._checkpoint.folder} reads texts, and no images"
            raise UnsupportedModelError(msg, hint="use a model for both, such as clip-ViT-B-32")
        vectors = self._images.run(pixels, max_rows=encode_kwargs.get("batch_size"))
        return self._shaped(vectors, encode_kwargs)

    def close(self) -> None:
        """Does nothing: there are no processes to stop."""

    def _probe(self) -> NDArray[np.float32]:
        vectors = [self.encode(PROBE_TEXTS, kind="document", encode_kwargs={})]
        if self._images is not None:
            vectors.append(self._shaped(self._images.probe(), {}))
        return np.concatenate(vectors).astype(np.float32, copy=False)

    def _shaped(self, vectors: NDArray[np.float32], encode_kwargs: Mapping[str, Any]) -> NDArray[np.number[Any]]:
        """Vectors as the settings want them: cut off, scaled to length 1, in whole numbers."""
        dimension = encode_kwargs.get("truncate_dim") or self._model_kwargs.get("truncate_dim")
        vectors = vectors[:, :dimension]
        if encode_kwargs.get("normalize_embeddings"):
            vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _TINY)
        return _in_precision(vectors, encode_kwargs.get("precision") or "float32")


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
