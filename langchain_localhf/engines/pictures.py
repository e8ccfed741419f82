"""Pictures to compare engines with, drawn anew each time: as different as a few can be, and the same everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from langchain_localhf.engines.images import prepared

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.images import ImagePreparation

# Width and height: of a photograph, small, long and narrow, and of one dot.
_SHAPES = ((320, 240), (240, 320), (64, 64), (17, 13), (900, 40), (40, 900), (1, 1))
_PLAIN = ((0, 0, 0), (255, 255, 255), (200, 30, 30))


def golden_pixels(preparation: ImagePreparation) -> NDArray[np.uint8]:
    """Pictures of many shapes and kinds, as a model reads them. Shape: `(images, height, width, 3)`."""
    drawn = [draw(seed, shape) for shape in _SHAPES for seed, draw in enumerate((_noise, _blots))]
    plain = [Image.new("RGB", _SHAPES[0], colour) for colour in _PLAIN]
    return np.stack([prepared(picture, preparation) for picture in (*drawn, *plain)])


def _noise(seed: int, shape: tuple[int, int]) -> Image.Image:
    width, height = shape
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _blots(seed: int, shape: tuple[int, int]) -> Image.Image:
    """Soft patches of colour: large areas and few edges, as a photograph has."""
    return _noise(seed, (5, 4)).resize(shape, Image.Resampling.BICUBIC)
