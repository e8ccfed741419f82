"""Golden vectors."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_localhf.engines import golden
from langchain_localhf.engines.base import PROBE_TEXTS

_VECTORS = np.array([[1, 2, 3], [-4, 5, 6]], dtype=np.float32)


def test_recorded_vectors_are_the_same() -> None:
    """What was recorded is compared as it was."""
    recorded = golden.record(_VECTORS)
    assert recorded.texts == PROBE_TEXTS
    assert golden.lowest_cosine(_VECTORS, recorded) == pytest.approx(1)
    assert golden.lowest_cosine(_VECTORS * 2, recorded) == pytest.approx(1)


def test_the_recorded_bytes_are_those_of_every_machine() -> None:
    """Little-endian float32, whatever the vectors came as."""
    expected = golden.record(_VECTORS).float32_base64
    assert golden.record(_VECTORS.astype(">f4")).float32_base64 == expected  # type: ignore[arg-type]
    assert golden.record(np.asfortranarray(_VECTORS)).float32_base64 == expected


@pytest.mark.parametrize(
    ("now", "cosine"),
    [
        pytest.param(_VECTORS * [[1], [-1]], -1, id="one turned round"),
        pytest.param(_VECTORS[:, :2], -1, id="another dimension"),
        pytest.param(np.full((2, 3), np.nan), -1, id="not finite"),
        pytest.param(np.zeros((2, 3)), 0, id="zero"),
    ],
)
def test_the_worst_vector_counts(now: np.ndarray, cosine: float) -> None:
    """One vector that is another is enough; what cannot be compared is as different as can be."""
    with np.errstate(all="raise"):
        assert golden.lowest_cosine(now.astype(np.float32), golden.record(_VECTORS)) == pytest.approx(cosine)


def test_vectors_of_other_texts_are_different() -> None:
    """A manifest with texts of its own cannot be compared."""
    recorded = golden.record(_VECTORS).model_copy(update={"texts": ("a", "b")})
    assert golden.lowest_cosine(_VECTORS, recorded) == -1
