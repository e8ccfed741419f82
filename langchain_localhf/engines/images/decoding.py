"""Bytes to pictures: what a person would see, or an error; nothing is fetched, and no other program is started."""

from __future__ import annotations

import contextlib
import io
import re
import threading
import warnings
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_MAX_PIXELS = 64_000_000

# How a file of each kind begins. Pillow knows more kinds; one of them, EPS, it hands to another program.
_BEGINNINGS = {
    "JPEG": re.compile(rb"\xff\xd8\xff"),
    "PNG": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "GIF": re.compile(rb"GIF8[79]a"),
    "WEBP": re.compile(rb"RIFF....WEBP", re.DOTALL),
    "AVIF": re.compile(rb"....ftyp(avif|avis|mif1|msf1)", re.DOTALL),
    "TIFF": re.compile(rb"II\*\0|MM\0\*|II\+\0|MM\0\+"),
    "BMP": re.compile(rb"BM"),
}
_READ = (*_BEGINNINGS, "MPO")  # MPO: several pictures in a file that begins as JPEG; the first is read
_SMALLEST_FILE = 20
_READ_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"}
_BITS_PER_SAMPLE, _ORIENTATION = 258, 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HINT = "leave it out, or convert it to PNG or JPEG"

_loading = threading.Lock()
# Up to twenty bytes a pixel while it is decoded: of large images, one after the other.
_large = threading.Lock()
_LARGE_PIXELS = 1 << 24
_quiet = threading.Lock()
_quiet_count = 0
_NO_WARNINGS_OF_PILLOW = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


class _RefusedError(Exception):
    def __init__(self, why: str, hint: str = _HINT) -> None:
        super().__init__(why)
        self.why, self.hint = why, hint


def begins_like_image(data: bytes) -> bool:
    """Whether these bytes are the beginning of an image of a kind that is read."""
    return len(data) >= _SMALLEST_FILE and _kind(data) is not None


def decode(
    data: bytes | Image.Image, *, label: str, index: int | None = None, max_pixels: int = DEFAULT_MAX_PIXELS
) -> Image.Image:
    """An image in RGB, turned as its EXIF says, the first frame of an animated one, what is transparent on white.

    Args:
        data: The file's bytes, or a picture that Pillow has opened.
        label: What to call it in an error, such as `images[3]`.
        index: Its place in the list that the user gave.
        max_pixels: How many pixels it may have; looked at before it is decoded.

    Raises:
        InputError: It is no image, damaged, too large, or of a kind that is not read.
    """
    try:
        with _quiet_pillow():
            return _decoded(data, max_pixels)
    except _RefusedError as refused:
        raise InputError(f"{label} {refused.why}", index=index, hint=refused.hint) from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{label} is too large: {error}", index=index, hint=_HINT) from None
    except Exception as error:  # for damaged data, decoders raise whatever goes wrong first; nothing is hidden
        msg = f"{label} is a damaged image: {_first_line(error)}"
        raise InputError(msg, index=index, hint=_HINT) from error


def _decoded(data: bytes | Image.Image, max_pixels: int) -> Image.Image:
    if isinstance(data, Image.Image):
        if data.format is not None and data.format not in _READ:
            hint = "if you trust the file, let Pillow decode it, and pass image.copy()"
            raise _RefusedError(f"was opened from a file of the kind {data.format}, which is not read", hint)
        _check_size(data, max_pixels)
        # Pillow loads a picture once, and two threads at once spoil it: the same one may stand in a list twice.
        with _loading:
            data.load()
            orientation = _orientation(data)
        return _upright(_in_rgb(data), orientation)
    with _opened(data) as image:
        _check_size(image, max_pixels)
        with _large if image.width * image.height > _LARGE_PIXELS else contextlib.nullcontext():
            image.load()
            return _upright(_in_rgb(image), _orientation(image))


def _kind(data: bytes) -> str | None:
    return next((kind for kind, beginning in _BEGINNINGS.items() if beginning.match(data)), None)


def _opened(data: bytes) -> Image.Image:
    if not data:
        raise _RefusedError("is empty")
    kind = _kind(data)
    if kind is None:
        raise _RefusedError("is no image of a kind that is read", f"use one of {', '.join(_READ)}")
    if kind not in Image.OPEN:
        Image.init()
        if kind not in Image.OPEN:
            raise _RefusedError(f"is of the kind {kind}, which this Pillow cannot read", "pip install --upgrade pillow")
    try:
        return Image.open(io.BytesIO(data), formats=[kind])
    except UnidentifiedImageError:  # its message holds an address in memory, and no more
        raise _RefusedError(f"begins as {kind}, and is damaged") from None


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if not width or not height:
        raise _RefusedError("has no pixels")
    if width * height > max_pixels:
        why = f"has {width} x {height} pixels, more than the {max_pixels:,} that are allowed"
        raise _RefusedError(why, "make it smaller, or allow more with max_image_pixels")


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        image = _in_eight_bits(image)
    if image.mode not in _READ_MODES:
        hint = 'turn it into 8 bits a colour first: image.convert("RGB") if its values run from 0 to 255'
        raise _RefusedError(f"has pixels of the kind {image.mode}, for which there is no one way to show them", hint)
    transparency = image.info.get("transparency")
    if "A" not in image.getbands() and transparency is None:
        return image.convert("RGB")
    # As transformers 5.23 does; 5.3 shows the colours that lie hidden under what is transparent.
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """Gray in up to 16 bits, scaled; Pillow's own conversion makes white of everything above 255."""
    values = np.asarray(image).astype(np.uint16)
    transparent = image.info.get("transparency")
    bits = 16
    if image.format == "TIFF":
        tags: Any = cast("Any", image).tag_v2
        bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    gray = (values >> (bits - 8)).astype(np.uint8)
    if isinstance(transparent, int):
        gray[values == transparent] = 255
    return Image.fromarray(gray)


def _orientation(image: Image.Image) -> object:
    """How the picture lies, as its EXIF says; None where that is damaged, as viewers have it."""
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # noqa: BLE001 - as in `decode`; the picture itself is whole
        return None


def _upright(image: Image.Image, orientation: object) -> Image.Image:
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Keeps Pillow from warning about what is checked here anyway, such as damaged EXIF.

    Not `warnings.catch_warnings`: when a thread leaves that, it takes away what another one still needs.
    """
    global _quiet_count  # noqa: PLW0603 - filters of warnings are global, too
    filters = cast("list[Any]", warnings.filters)
    with _quiet:
        if _NO_WARNINGS_OF_PILLOW not in filters:
            filters.insert(0, _NO_WARNINGS_OF_PILLOW)
        _quiet_count += 1
    try:
        yield
    finally:
        with _quiet:
            _quiet_count -= 1
            if not _quiet_count:
                with contextlib.suppress(ValueError):  # someone else has restored the filters meanwhile
                    cast("list[Any]", warnings.filters).remove(_NO_WARNINGS_OF_PILLOW)


def _first_line(error: Exception) -> str:
    text = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
