"""Golden vectors and scores: what a model gave when it was checked, to be compared at every later load.

They catch what no hash can: a library version, a device or a number format with which the same files give other
vectors.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

from langchain_localhf.engines.base import PROBE_PAIRS, PROBE_TEXTS
from langchain_localhf.store.plain_data import GoldenVectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Half precision stays above 0.9999 and another version of torch far above that; a wrong model falls below 0.9.
MIN_COSINE = 0.999
# Of a score, relative where it is above 1. Half precision stays far below; a wrong model hardly does for every pair.
MAX_SCORE_DIFFERENCE = 0.1
_LITTLE_ENDIAN_FLOAT32 = np.dtype("<f4")
_PAIRED_TEXTS = tuple(text for pair in PROBE_PAIRS for text in pair)


def record(probe_vectors: NDArray[np.float32]) -> GoldenVectors:
    """The golden vectors of a model, from its vectors for `PROBE_TEXTS`, and those of images behind them, if any."""
    return _golden(PROBE_TEXTS, probe_vectors)


def record_scores(probe_scores: NDArray[np.float32]) -> GoldenVectors:
    """The golden scores of a cross-encoder, from its scores for `PROBE_PAIRS`."""
    return _golden(_PAIRED_TEXTS, probe_scores)


def lowest_cosine(probe_vectors: NDArray[np.float32], golden: GoldenVectors) -> float:
    """The lowest cosine between the vectors that a model gives now and those that it gave.

    Args:
        probe_vectors: The vectors of the same texts, and images, now. Shape: `(2 or more, dimension)`.
        golden: The vectors then; fewer, if no images were looked at.

    Returns:
        1.0 for equal directions; -1.0 if the texts or the dimension are not the same, or a vector is not finite.
    """
    then, dimension = _values(golden), probe_vectors.shape[1]
    rows = then.size // dimension
    if golden.texts != PROBE_TEXTS or then.size % dimension or not len(PROBE_TEXTS) <= rows <= len(probe_vectors):
        return -1.0
    then, now = then.reshape(rows, dimension), probe_vectors[:rows]
    norms = np.linalg.norm(then, axis=1) * np.linalg.norm(now, axis=1)
    cosines = np.sum(then * now, axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    return float(np.min(np.nan_to_num(cosines, nan=-1.0)))


def largest_difference(probe_scores: NDArray[np.float32], golden: GoldenVectors) -> float:
    """The largest difference between the scores that a cross-encoder gives now and those that it gave.

    Args:
        probe_scores: The scores of `PROBE_PAIRS` now.
        golden: The scores then.

    Returns:
        Relative for scores above 1; infinite if the pairs or their number of scores are not the same, or a score is not
        finite.
    """
    then = _values(golden)
    if golden.texts != _PAIRED_TEXTS or then.size != probe_scores.size:
        return float("inf")
    differences = np.abs(then - probe_scores.ravel()) / np.maximum(1.0, np.abs(then))
    return float(np.max(np.nan_to_num(differences, nan=np.inf)))


def _golden(texts: tuple[str, ...], values: NDArray[np.float32]) -> GoldenVectors:
    data = np.asarray(values, dtype=_LITTLE_ENDIAN_FLOAT32).tobytes()
    return GoldenVectors(texts=texts, float32_base64=base64.b64encode(data).decode("ascii"))


def _values(golden: GoldenVectors) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(golden.float32_base64), dtype=_LITTLE_ENDIAN_FLOAT32)
