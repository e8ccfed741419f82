"""What a GGUF file says about its model: the header, without the weights."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, BinaryIO

from langchain_localhf.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

_MAGIC = b"GGUF"
_FIRST_VERSION = 2  # version 1 counts in 32 bits, and is extinct
# The types of values, by their number in the file.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_TEXT, _LIST = 8, 9


def read_metadata(path: Path) -> dict[str, Any]:
    """The names and values at the start of the file.

    Raises:
        CheckpointError: It is no GGUF file, or damaged.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC or _number(file, "I") < _FIRST_VERSION:
                msg = f"{path} is no GGUF file"
                raise CheckpointError(msg, hint="download or copy it again")
            _number(file, "Q")  # of tensors
            return {_text(file): _value(file, _number(file, "I")) for _ in range(_number(file, "Q"))}
    except (OSError, struct.error, UnicodeDecodeError, KeyError, MemoryError, OverflowError) as error:
        msg = f"{path} cannot be read as GGUF: {error}"
        raise CheckpointError(msg, hint="download or copy it again") from error


def _value(file: BinaryIO, kind: int) -> Any:  # noqa: ANN401 - whatever the file holds
    if kind == _TEXT:
        return _text(file)
    if kind == _LIST:
        of, count = _number(file, "I"), _number(file, "Q")
        if of in _NUMBERS:
            form = f"<{count}{_NUMBERS[of]}"
            return list(struct.unpack(form, file.read(struct.calcsize(form))))
        return [_value(file, of) for _ in range(count)]
    return _number(file, _NUMBERS[kind])


def _number(file: BinaryIO, form: str) -> Any:  # noqa: ANN401 - as the form says
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0]


def _text(file: BinaryIO) -> str:
    return file.read(_number(file, "Q")).decode(errors="replace")
