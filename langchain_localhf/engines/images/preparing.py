"""Pictures to numbers, as the image processors of transformers do it with Pillow, for every engine alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from PIL.Image import Resampling

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from langchain_localhf.checkpoint.images import ImagePreparation

# A line of one pixel by a million is resized to 224 by 224 million. Above this, which is as large as an image may be,
# only what the crop keeps is made; sides in a proportion of a thousand to one come there.
_MAX_RESIZED_PIXELS = 1 << 26
# How many pixels beside its own place a filter looks at, at most: Lanczos does, three.
_REACH = 3


def prepared(image: Image, preparation: ImagePreparation) -> NDArray[np.uint8]:
    """The image, resized and cropped. Shape: `(height, width, 3)`.

    Args:
        image: In RGB.
        preparation: How.
    """
    height, width = _resized_shape(image, preparation)
    resample = Resampling(preparation.resample)
    if preparation.crop_to is not None and height * width > _MAX_RESIZED_PIXELS:
        return _window(image, (height, width), preparation.crop_to, resample)
    if (width, height) != image.size:
        image = image.resize((width, height), resample)
    pixels = np.asarray(image)
    return pixels if preparation.crop_to is None else _cropped(pixels, preparation.crop_to)


def normalized(pixels: NDArray[np.uint8], preparation: ImagePreparation) -> NDArray[np.float32]:
    """Scaled and normalised, with the channels first.

    Args:
        pixels: Shape: `(images, height, width, 3)`.
        preparation: How.

    Returns:
        Shape: `(images, 3, height, width)`.
    """
    # The same arithmetic as transformers' own, once for each of the 256 values and not for each pixel.
    values = (np.arange(256, dtype=np.float64) * preparation.scale).astype(np.float32)
    result = np.empty((len(pixels), 3, *pixels.shape[1:3]), dtype=np.float32)
    for channel, (mean, std) in enumerate(zip(preparation.mean, preparation.std, strict=True)):
        table = (values - np.float32(mean)) / np.float32(std)
        np.take(table, pixels[..., channel], out=result[:, channel])
    return result


def _resized_shape(image: Image, preparation: ImagePreparation) -> tuple[int, int]:
    width, height = image.size
    if preparation.resize_to is not None:
        return preparation.resize_to
    if preparation.shortest_edge is None:
        return height, width
    short = preparation.shortest_edge
    if width <= height:
        return int(short * height / width), short
    return short, int(short * width / height)


def _cropped(pixels: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The middle, with black around it where the image is smaller than that."""
    result = np.zeros((*shape, 3), dtype=np.uint8)
    (to_rows, from_rows), (to_columns, from_columns) = map(_overlap, pixels.shape, shape)
    result[to_rows, to_columns] = pixels[from_rows, from_columns]
    return result


def _overlap(length: int, kept: int) -> tuple[slice, slice]:
    """Where the middle of a side goes to, and where it comes from."""
    if kept <= length:
        start = (length - kept) // 2
        return slice(0, kept), slice(start, start + kept)
    # transformers rounds up here, when it computes what to add, and down above, when it computes what to take away.
    start = -((kept - length) // -2)
    return slice(start, start + length), slice(0, length)


def _window(image: Image, resized: tuple[int, int], shape: tuple[int, int], resample: Resampling) -> NDArray[np.uint8]:
    """The crop, without making all that lies around it first; some values differ by one from what that would give."""
    spans = [_overlap(length, kept) for length, kept in zip(resized, shape, strict=True)]
    (to_rows, rows), (to_columns, columns) = spans
    top, bottom, upper, lower = _source(rows, image.height / resized[0], image.height)
    left, right, first, last = _source(columns, image.width / resized[1], image.width)
    # Pillow reckons with few digits here, which are enough near 0.
    part = image.crop((left, top, right, bottom))
    size = columns.stop - columns.start, rows.stop - rows.start
    result = np.zeros((*shape, 3), dtype=np.uint8)
    result[to_rows, to_columns] = np.asarray(part.resize(size, resample, box=(first, upper, last, lower)))
    return result


def _source(span: slice, scale: float, length: int) -> tuple[int, int, float, float]:
    """The pixels that a part of the resized image is made of: from where to where, and in these, the part itself."""
    reach = math.ceil(_REACH * max(scale, 1.0)) + 1
    start, stop = max(0, math.floor(span.start * scale) - reach), min(length, math.ceil(span.stop * scale) + reach)
    return start, stop, span.start * scale - start, min(span.stop * scale - start, stop - start)
