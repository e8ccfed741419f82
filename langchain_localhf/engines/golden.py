"""Golden vectors: what a model gave when it was checked, to be compared at every later load.

They catch what no hash can: a library version, a device or a number format with which the same files give other
vectors.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import numpy as np

from langchain_localhf.engines.base import PROBE_TEXTS
from langchain_localhf.store.manifest import GoldenVectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Half precision stays above 0.9999 and another version of torch far above that; a wrong model falls below 0.9.
MIN_COSINE = 0.999
_LITTLE_ENDIAN_FLOAT32 = np.dtype("<f4")


def record(probe_vectors: NDArray[np.float32]) -> GoldenVectors:
    """The golden vectors of a model, from its vectors for `PROBE_TEXTS`. Shape: `(2, dimension)`."""
    data = np.asarray(probe_vectors, dtype=_LITTLE_ENDIAN_FLOAT32).tobytes()
    return GoldenVectors(texts=PROBE_TEXTS, float32_base64=base64.b64encode(data).decode("ascii"))


def lowest_cosine(probe_vectors: NDArray[np.float32], golden: GoldenVectors) -> float:
    """The lowest cosine between the vectors that a model gives now and those that it gave.

    Args:
        probe_vectors: The vectors of the same texts now. Shape: `(2, dimension)`.
        golden: The vectors then.

    Returns:
        1.0 for equal directions; -1.0 if the texts or the dimension are not the same, or a vector is not finite.
    """
    then = np.frombuffer(base64.b64decode(golden.float32_base64), dtype=_LITTLE_ENDIAN_FLOAT32)
    if golden.texts != PROBE_TEXTS or then.size != probe_vectors.size:
        return -1.0
    then = then.reshape(probe_vectors.shape)
    norms = np.linalg.norm(then, axis=1) * np.linalg.norm(probe_vectors, axis=1)
    cosines = np.sum(then * probe_vectors, axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    return float(np.min(np.nan_to_num(cosines, nan=-1.0)))
