"""What the protocols ask for: vectors of texts, vectors of images, scores of pairs; batched across requests."""

from __future__ import annotations

import asyncio
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from langchain_localhf.checkpoint.prompts import prompt_for
from langchain_localhf.engines.images import decode, prepared
from langchain_localhf.errors import CheckpointError, UnsupportedModelError
from langchain_localhf.server.batcher import Batcher, Item
from langchain_localhf.server.failures import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from langchain_localhf.engines.base import InputKind
    from langchain_localhf.loaded import LoadedEncoder, LoadedScorer
    from langchain_localhf.server.metrics import BatchMetrics
    from langchain_localhf.server.settings import Limits

# Enough for identical inputs that come soon after each other; a vector has some kilobytes.
_KEPT_RESULTS = 4096
# For the queue only: the tokens that a model really reads are counted beside its batch.
_BYTES_A_TOKEN = 4
_SPECIAL_TOKENS = 2
_ASSUMED_MAX_TOKENS = 8192
# A text is read to its end before it is cut off: so many bytes take as long as the model takes for a token.
_BYTES_READ_A_TOKEN = 256
# An image costs about as much as a text of so many tokens.
_TOKENS_AN_IMAGE = 256
_KINDS: tuple[InputKind, ...] = ("query", "document")

_ContentT = TypeVar("_ContentT")
_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True)
class Embedded:
    """Vectors of texts.

    Attributes:
        vectors: Shape: `(texts, dimension)`.
        token_counts: How many tokens of each text the model read, with the prompt that the model puts before it.
        cut: The places of the texts that have more tokens than the model reads.
    """

    vectors: NDArray[np.float32]
    token_counts: tuple[int, ...]
    cut: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scored:
    """Scores of documents.

    Attributes:
        scores: One score a document, in their order.
        cut: The places of the documents that have, with the query, more tokens than the model reads.
    """

    scores: list[float]
    cut: tuple[int, ...] = ()


class TextInference:
    """Texts to vectors, for many requests at once.

    Args:
        loaded: The model.
        metrics: What to tell about each batch.
        limits: How much runs and waits.
    """

    def __init__(self, loaded: LoadedEncoder, *, metrics: BatchMetrics, limits: Limits) -> None:
        self.loaded = loaded
        self._limits = limits
        self._prompts = {kind: prompt_for(kind, loaded.checkpoint, loaded.model_kwargs, {}) for kind in _KINDS}
        self._batcher = _batcher(self._compute, metrics, limits)

    async def embed(self, texts: Sequence[str], *, kind: InputKind = "document") -> Embedded:
        """Embeds texts with the model's own settings, as `HuggingFaceEmbeddings` does.

        Raises:
            TooLargeError: One of them is too long to be read; the error names its place.
            OverloadedError: Too much waits already.
        """
        limit = self.loaded.encoder.max_seq_length
        items = []
        for index, text in enumerate(texts):
            data = text.encode()
            _check_length(data, self._limits, f"text {index}")
            items.append(Item((kind, text), _key(kind.encode(), data), _cost(len(data), limit)))
        results = await self._batcher.submit(items)
        counts = [count for _, count in results]
        return Embedded(
            vectors=np.stack([vector for vector, _ in results]),
            token_counts=tuple(count if limit is None else min(count, limit) for count in counts),
            cut=tuple(index for index, count in enumerate(counts) if limit is not None and count > limit),
        )

    def _compute(self, items: Sequence[tuple[InputKind, str]]) -> list[tuple[NDArray[np.float32], int]]:
        encoder = self.loaded.encoder
        counts = encoder.count_tokens([self._prompts[kind] + text for kind, text in items])
        vectors = np.empty((len(items), encoder.dimension), dtype=np.float32)
        for kind in {kind for kind, _ in items}:
            rows = [row for row, item in enumerate(items) if item[0] == kind]
            vectors[rows] = encoder.encode([items[row][1] for row in rows], kind=kind, encode_kwargs={})
        return list(zip(_each(vectors), counts, strict=True))

    async def close(self) -> None:
        """Computes what waits already, and takes nothing more."""
        await self._batcher.close()


class ImageInference:
    """Images to vectors, for many requests at once.

    Args:
        loaded: The model.
        metrics: What to tell about each batch.
        limits: How much runs and waits.

    Raises:
        UnsupportedModelError: The model reads texts only.
    """

    def __init__(self, loaded: LoadedEncoder, *, metrics: BatchMetrics, limits: Limits) -> None:
        preparation = loaded.encoder.image_preparation
        if preparation is None:
            msg = f"{loaded.model.name} reads texts only, and no images"
            raise UnsupportedModelError(msg, hint="name a CLIP or SigLIP model for --clip, and this one for --text")
        self.loaded = loaded
        self._preparation, self._max_pixels = preparation, limits.image_pixels
        # Decoding does not wait for the model, nor the model for it.
        self._decoders = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decoder")
        self._tokens_decoding = 0
        self._batcher = _batcher(self._compute, metrics, limits)

    async def embed(self, images: Sequence[bytes], *, label: str = "images") -> NDArray[np.float32]:
        """Embeds images with the model's own settings, as `CLIPEmbeddings` does.

        Args:
            images: The bytes of files such as JPEG or PNG.
            label: What the request calls the list, for errors.

        Returns:
            Shape: `(len(images), dimension)`.

        Raises:
            InputError: One of them is no image that can be read; the error names its index.
            OverloadedError: Too much waits already.
        """
        return np.stack(await self._batcher.submit(await self._decoded(images, label)))

    async def _decoded(self, images: Sequence[bytes], label: str) -> list[Item[NDArray[np.uint8]]]:
        tokens = len(images) * _TOKENS_AN_IMAGE
        self._batcher.check_room(tokens, beside=self._tokens_decoding)
        loop = asyncio.get_running_loop()
        self._tokens_decoding += tokens
        try:
            return await asyncio.gather(
                *(
                    loop.run_in_executor(self._decoders, self._read, data, f"{label}[{index}]", index)
                    for index, data in enumerate(images)
                )
            )
        finally:
            self._tokens_decoding -= tokens

    def _read(self, data: bytes, label: str, index: int) -> Item[NDArray[np.uint8]]:
        pixels = prepared(decode(data, label=label, index=index, max_pixels=self._max_pixels), self._preparation)
        return Item(pixels, _key(pixels.tobytes()), _TOKENS_AN_IMAGE)

    def _compute(self, images: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        vectors = self.loaded.encoder.encode_images(np.stack(images), encode_kwargs={})
        return _each(vectors.astype(np.float32, copy=False))

    async def close(self) -> None:
        """Computes what waits already, and takes nothing more."""
        await self._batcher.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)


class PairInference:
    """Pairs of a query and a document to scores, for many requests at once.

    Args:
        loaded: The cross-encoder.
        metrics: What to tell about each batch.
        limits: How much runs and waits.
    """

    def __init__(self, loaded: LoadedScorer, *, metrics: BatchMetrics, limits: Limits) -> None:
        self.loaded = loaded
        self._limits = limits
        self._batcher = _batcher(self._compute, metrics, limits)

    async def score(self, query: str, documents: Sequence[str]) -> Scored:
        """Scores documents, as `HuggingFaceCrossEncoder` does.

        Raises:
            TooLargeError: One of the texts is too long to be read, and the error names its place; or the query is too
                long for so many documents.
            OverloadedError: Too much waits already.
        """
        limit, asked = self.loaded.scorer.max_seq_length, query.encode()
        _check_length(asked, self._limits, "the query")
        if len(asked) * len(documents) > self._limits.body_bytes:  # it is read again with each of them
            msg = f"the query has {len(asked)} bytes, and is read with each of {len(documents)} documents"
            raise TooLargeError(msg, hint="shorten the query, or send fewer documents in a request")
        items = []
        for index, document in enumerate(documents):
            data = document.encode()
            _check_length(data, self._limits, f"document {index}")
            items.append(Item((query, document), _key(asked, data), _cost(len(asked) + len(data), limit)))
        results = await self._batcher.submit(items)
        return Scored(
            scores=[score for score, _ in results],
            cut=tuple(index for index, (_, is_cut) in enumerate(results) if is_cut),
        )

    def _compute(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[float, bool]]:
        scorer = self.loaded.scorer
        limit = scorer.max_seq_length
        # A batch at a time: a long query stands in every pair of its request, and a token takes a hundred bytes.
        cut = [limit is not None and count > limit for count in scorer.count_tokens(pairs)]
        return list(zip((float(score) for score in _each(self.loaded.relevance(pairs))), cut, strict=True))

    async def close(self) -> None:
        """Computes what waits already, and takes nothing more."""
        await self._batcher.close()


def _batcher(
    compute: Callable[[Sequence[_ContentT]], Sequence[_ResultT]], metrics: BatchMetrics, limits: Limits
) -> Batcher[_ContentT, _ResultT]:
    return Batcher(
        compute,
        batch_tokens=limits.batch_tokens,
        queue_tokens=limits.queue_tokens,
        kept_results=_KEPT_RESULTS,
        metrics=metrics,
    )


def _key(*parts: bytes) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def _cost(bytes_: int, limit: int | None) -> int:
    computed = min(limit or _ASSUMED_MAX_TOKENS, _SPECIAL_TOKENS + bytes_ // _BYTES_A_TOKEN)
    return computed + bytes_ // _BYTES_READ_A_TOKEN


def _check_length(data: bytes, limits: Limits, name: str) -> None:
    if len(data) > limits.text_bytes:
        msg = f"{name} has {len(data)} bytes; at most {limits.text_bytes} are read"
        raise TooLargeError(msg, hint="split it; a model reads the beginning of a text only")


def _each(rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """The rows, each with memory of its own, for one that is kept must not keep the others.

    Raises:
        CheckpointError: One of them is no finite number.
    """
    if not np.isfinite(rows).all():
        msg = "the model gives no finite number for this input"
        raise CheckpointError(msg, hint="if the model runs in half precision, load it in float32")
    return [row.copy() for row in rows]
