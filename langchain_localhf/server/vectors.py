"""Vectors as a request wants them: some of their numbers only, scaled to length 1; and whether a text was cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from langchain_localhf.loaded import LoadedEncoder

_SMALLEST_LENGTH = 1e-12
# A header has to stay short: proxies refuse a reply whose head is longer than some kilobytes.
_NAMED_INPUTS = 100


def check_dimensions(dimensions: int | None, loaded: LoadedEncoder) -> None:
    """Checks that a model's vectors have so many numbers.

    Raises:
        InputError: They have fewer, or none are asked for.
    """
    limit = loaded.encoder.dimension
    if dimensions is not None and not 1 <= dimensions <= limit:
        msg = f"dimensions is {dimensions}; a vector of {loaded.model.name} has {limit} numbers"
        raise InputError(msg, hint=f"ask for 1 to {limit}, or leave it out for all")


def shaped(
    vectors: NDArray[np.float32], loaded: LoadedEncoder, *, dimensions: int | None = None, normalize: bool
) -> NDArray[np.float32]:
    """A model's vectors as they are asked for. Shape: `(len(vectors), dimensions)`.

    Args:
        vectors: What the model gave.
        loaded: The model; what it has scaled already is not scaled again.
        dimensions: How many numbers to keep of each vector; None for all.
        normalize: Whether to scale the vectors to length 1.
    """
    if dimensions is not None and dimensions < vectors.shape[1]:
        vectors = np.ascontiguousarray(vectors[:, :dimensions])
    elif loaded.checkpoint.normalizes:
        return vectors
    return _normalized(vectors) if normalize else vectors


def _normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors, scaled to length 1, each by itself: what else is in the list changes no bit of it."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    scaled = vectors / np.maximum(lengths, _SMALLEST_LENGTH)[:, np.newaxis]
    return np.asarray(scaled, dtype=np.float32)


def truncation_headers(cut: Sequence[int]) -> dict[str, str]:
    """The header that names the texts that the model did not read to the end, by their places; none if it read all."""
    if not cut:
        return {}
    named = ",".join(map(str, cut[:_NAMED_INPUTS]))
    return {"x-truncated-inputs": named if len(cut) <= _NAMED_INPUTS else f"{named},..."}
