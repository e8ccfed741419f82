"""What counts as a list of images, where each of them comes from, and what is said where it is none."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import sys
from collections.abc import Iterable, Mapping, Sized
from pathlib import Path
from typing import Any, TypeAlias

from langchain_localhf.engines.images import Image, begins_like_image, decode
from langchain_localhf.errors import InputError

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | Image
"""A path, the bytes of a file, these in base64 or as a `data:` URI, or a picture that Pillow has opened."""

_TYPES = (str, os.PathLike, bytes, bytearray, memoryview, Image)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_DATA_URI = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
# One letter is a drive of Windows.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_BEGINNING = 64
_SHOWN = 60
# The largest that a file can be whose picture has so many pixels: nothing packed, two bytes for each of four channels.
_BYTES_PER_PIXEL, _BYTES_BESIDE = 8, 1 << 24


def checked_images(images: object) -> Iterable[Any]:
    """The images, unread; the items of a list are looked at before anything is opened.

    Raises:
        InputError: This is no list of images; the error names the index of the one that is none.
    """
    if isinstance(images, (*_TYPES, Mapping)) or not isinstance(images, Iterable):
        msg = f"embed_image takes a list of images, not {type(images).__name__}"
        raise InputError(msg, hint="put a single image into a list: embed_image([image])")
    if isinstance(images, Sized):
        for index, image in enumerate(images):
            _check_type(image, index)
    return images


def picture(image: Any, index: int, *, max_pixels: int) -> Image:  # noqa: ANN401 - whatever the user gave
    """Reads and decodes one image.

    Args:
        image: The image, in any of its forms.
        index: Its place in the list.
        max_pixels: How many pixels it may have.

    Raises:
        InputError: It cannot be read, or is no image.
    """
    _check_type(image, index)
    max_bytes = _BYTES_PER_PIXEL * max_pixels + _BYTES_BESIDE
    content = image if isinstance(image, Image) else _file(image, index, max_bytes)
    return decode(content, label=f"images[{index}]", index=index, max_pixels=max_pixels)


def checked_files(images: object) -> list[Any]:
    """The images as a list, unread; each is a file, or says where one is.

    Raises:
        InputError: This is no list of images, or holds a picture that Pillow has opened, which may come from no file.
    """
    files = list(checked_images(images))
    for index, image in enumerate(files):
        _check_type(image, index)
        if isinstance(image, Image):
            msg = f"images[{index}] is a picture in memory; a collection keeps its file beside the vector"
            raise InputError(msg, index=index, hint="pass its path, or save it into io.BytesIO() and pass the bytes")
    return files


def file_in_base64(image: Any, index: int) -> str:  # noqa: ANN401 - one of those that `checked_files` gives
    """The file of an image as a collection keeps it.

    Raises:
        InputError: It cannot be read any more.
    """
    return base64.b64encode(_file(image, index, sys.maxsize)).decode()


def is_picture_in_base64(text: str) -> bool:
    """Whether all of this is base64 that begins as an image does; `picture` opens no file for it then."""
    return _from_base64(text) is not None


def _check_type(image: object, index: int) -> None:
    if not isinstance(image, _TYPES):
        msg = f"images[{index}] is {type(image).__name__}; expected a path, bytes, base64 or a PIL.Image"
        raise InputError(msg, index=index, hint="leave it out; of an array, make an image with PIL.Image.fromarray")


def _file(image: Any, index: int, max_bytes: int) -> bytes:  # noqa: ANN401 - as above
    label = f"images[{index}]"
    if isinstance(image, str):
        return _from_text(image, label, index, max_bytes)
    if isinstance(image, os.PathLike):
        return _from_file(image, label, index, max_bytes)
    return image if isinstance(image, bytes) else bytes(image)


def _from_text(text: str, label: str, index: int, max_bytes: int) -> bytes:
    if uri := _DATA_URI.match(text):
        try:
            return _decoded(text[uri.end() :])
        except (binascii.Error, ValueError) as error:
            msg = f"{label} is a data: URI whose base64 is damaged: {error}"
            raise InputError(msg, index=index, hint="encode the image anew: base64.b64encode(data)") from None
    if scheme := _SCHEME.match(text):
        msg = f"{label} is an address ({scheme[0]}...), and nothing is fetched: {_shortened(text)}"
        hint = "download it yourself and pass its bytes or its path; a path with a colon as pathlib.Path"
        raise InputError(msg, index=index, hint=hint)
    content = _from_base64(text)
    return _from_file(text, label, index, max_bytes) if content is None else content


def _from_base64(text: str) -> bytes | None:
    """What the text encodes, if that is an image; None for a text that is a path then."""
    beginning = text[:_BEGINNING]
    if not _BASE64.fullmatch(beginning):
        return None
    try:
        if begins_like_image(base64.b64decode(beginning[: len(beginning) // 4 * 4], validate=True)):
            return _decoded(text)
    except (binascii.Error, ValueError):
        pass  # so it is a path, which need not exist
    return None


def _decoded(text: str) -> bytes:
    # Many programs break base64 into lines.
    return base64.b64decode("".join(text.split()), validate=True)


def _from_file(path: str | os.PathLike[str], label: str, index: int, max_bytes: int) -> bytes:
    hint = "check the path; relative ones begin in the working folder of the program"
    try:
        # Looked at before it is opened: opening a pipe would wait for someone who writes into it.
        status = Path(path).stat()
        is_file, is_small = stat.S_ISREG(status.st_mode), status.st_size <= max_bytes
        content = Path(path).read_bytes() if is_file and is_small else b""
    except FileNotFoundError:
        msg = f"{label} is neither a file nor an image in base64: {_shortened(path)}"
        raise InputError(msg, index=index, hint=hint) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path, or half a character
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"{label} cannot be read: {_shortened(path)}: {reason}", index=index, hint=hint) from None
    if not is_file:
        raise InputError(f"{label} is no file: {_shortened(path)}", index=index, hint=hint)
    if not is_small:
        msg = f"{label} is a file of {status.st_size:,} bytes, more than an image of the allowed size can have"
        raise InputError(msg, index=index, hint="make it smaller, or allow more with max_image_pixels")
    return content


def _shortened(path: object) -> str:
    text = str(path)
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")
