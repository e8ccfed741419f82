"""Vectors as a request wants them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from support import dual_encoders

from langchain_localhf.errors import InputError
from langchain_localhf.loading import load_encoder
from langchain_localhf.server.vectors import check_dimensions, shaped, truncation_headers

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_localhf.loaded import LoadedEncoder

VECTORS = np.random.default_rng(0).normal(size=(50, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def unscaled(tmp_path_factory: pytest.TempPathFactory) -> LoadedEncoder:
    """A model whose vectors have any length."""
    return load_encoder(str(dual_encoders.text_tower(tmp_path_factory.mktemp("models") / "tower")))


@pytest.mark.parametrize("dimensions", [None, 16, 5])
def test_each_vector_by_itself(unscaled: LoadedEncoder, dimensions: int | None) -> None:
    """What else is in the list changes no bit of it."""
    together = shaped(VECTORS, unscaled, dimensions=dimensions, normalize=True)
    alone = [shaped(VECTORS[row : row + 1], unscaled, dimensions=dimensions, normalize=True)[0] for row in range(50)]
    assert together.dtype == np.float32
    assert (together == np.stack(alone)).all()
    assert np.abs(np.linalg.norm(together, axis=1) - 1).max() < 1e-6


def test_as_they_are(unscaled: LoadedEncoder, minilm: Path) -> None:
    """Where no scale is wanted, or the model has scaled them itself."""
    assert shaped(VECTORS, unscaled, normalize=False) is VECTORS
    assert shaped(VECTORS, load_encoder(str(minilm)), normalize=True) is VECTORS
    assert (shaped(VECTORS, unscaled, dimensions=3, normalize=False) == VECTORS[:, :3]).all()


def test_no_length(unscaled: LoadedEncoder) -> None:
    """A vector of zeros stays one, and no other is moved."""
    assert (shaped(VECTORS * 0, unscaled, normalize=True) == 0).all()


def test_dimensions(unscaled: LoadedEncoder) -> None:
    """From one to all."""
    for dimensions in (None, 1, 16):
        check_dimensions(dimensions, unscaled)
    for dimensions in (0, 17):
        with pytest.raises(InputError, match=r"has 16 numbers"):
            check_dimensions(dimensions, unscaled)


def test_the_header() -> None:
    """It is there only if a text was cut, and never long."""
    assert truncation_headers(()) == {}
    assert truncation_headers([3, 5]) == {"x-truncated-inputs": "3,5"}
    assert len(truncation_headers(range(5000))["x-truncated-inputs"]) < 300
