"""Golden vectors."""

from __future__ import annotations

import numpy as np
import pytest

from langchain_localhf.engines import golden
from langchain_localhf.engines.base import PROBE_PAIRS, PROBE_TEXTS

_SCORES = np.array([0.5, 0.1, 10, -4], dtype=np.float32)
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


def test_images_count_if_there_were_any() -> None:
    """Their vectors are behind those of the texts; who recorded none then is compared as far as it goes."""
    with_image = np.concatenate([_VECTORS, _VECTORS[:1]])
    assert golden.lowest_cosine(with_image, golden.record(with_image)) == pytest.approx(1)
    assert golden.lowest_cosine(with_image * [[1], [1], [-1]], golden.record(with_image)) == pytest.approx(-1)
    assert golden.lowest_cosine(with_image, golden.record(_VECTORS)) == pytest.approx(1)
    assert golden.lowest_cosine(_VECTORS, golden.record(with_image)) == -1


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        pytest.param(_SCORES, 0, id="the same"),
        pytest.param(np.add(_SCORES, [0, 0.2, 0, 0]), 0.2, id="a small score"),
        pytest.param(np.add(_SCORES, [0, 0.1, 3, 0]), 0.3, id="a large score, relative to its size"),
        pytest.param(np.repeat(_SCORES[:, None], 3, axis=1), np.inf, id="more labels"),
        pytest.param(np.add(_SCORES, [0, np.nan, 0, 0]), np.inf, id="not finite"),
    ],
)
def test_the_worst_score_counts(now: np.ndarray, difference: float) -> None:
    """One pair that is scored otherwise is enough."""
    recorded = golden.record_scores(_SCORES)
    assert recorded.texts[:2] == PROBE_PAIRS[0]
    assert golden.largest_difference(now.astype(np.float32), recorded) == pytest.approx(difference, rel=1e-5)


def test_scores_of_other_pairs_are_different() -> None:
    """Golden vectors, too, are no scores."""
    assert golden.largest_difference(_SCORES, golden.record(_SCORES)) == np.inf
