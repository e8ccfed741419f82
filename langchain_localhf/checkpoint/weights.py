"""The headers of safetensors files: which tensors a checkpoint holds, without reading one of them.

Format: https://huggingface.co/docs/safetensors (8 bytes of length, a JSON header, then the data without gaps).
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_localhf.errors import CheckpointError, IncompleteModelError

if TYPE_CHECKING:
    from pathlib import Path

_PULL_AGAIN = "pull or copy the model again"
_SHARD = re.compile(r"\w[\w.-]*\.safetensors", re.ASCII)
_LENGTH = struct.Struct("<Q")
_HEADER_LIMIT_BYTES = 100_000_000  # the limit of the safetensors library itself
_GIT_LFS_POINTER = b"version https://git-lfs"
_BITS = {
    "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32, "U64": 64, "I64": 64, "F64": 64,
    "C64": 64,
}  # fmt: skip


@dataclass(frozen=True)
class TensorHeader:
    """What a header says of one tensor.

    Attributes:
        dtype: Its type in safetensors' own words, such as `F32`.
        shape: Its shape.
    """

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {list(self.shape)}"


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """The tensors of the weights in `folder` (not below it), by name; empty if it holds no safetensors weights.

    Reads `model.safetensors.index.json` where the weights are in several files.

    Raises:
        IncompleteModelError: A file that the index names is missing.
        CheckpointError: A file is truncated or damaged.
    """
    single = folder / "model.safetensors"
    index = folder / "model.safetensors.index.json"
    if single.is_file():  # transformers prefers it, too
        return read_header(single)
    if not index.is_file():
        return {}
    shards = _shards(index)
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        msg = f"{len(missing)} of {len(shards)} weight files of {folder} are missing: {', '.join(missing)}"
        raise IncompleteModelError(msg, missing=missing, hint=_PULL_AGAIN)
    return {name: tensor for shard in shards for name, tensor in read_header(folder / shard).items()}


def _shards(index: Path) -> list[str]:
    try:
        shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        msg = f"{index} is damaged: {error!r}"
        raise CheckpointError(msg, hint=_PULL_AGAIN) from error
    # A shard beside its index: no path may lead out of the model's folder.
    if not shards or not all(isinstance(shard, str) and _SHARD.fullmatch(shard) for shard in shards):
        msg = f"{index} is damaged: it should name files such as 'model-00001-of-00002.safetensors'"
        raise CheckpointError(msg, hint=_PULL_AGAIN)
    return shards


def read_header(path: Path) -> dict[str, TensorHeader]:
    """The tensors of one safetensors file, by name.

    Raises:
        CheckpointError: The file is truncated or damaged; the message gives its name and sizes.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_LENGTH.size)
        if start and _GIT_LFS_POINTER.startswith(start):
            msg = f"{path} is a git-lfs pointer, not the weights themselves"
            raise CheckpointError(
                msg, hint="fetch the weights with `git lfs pull`, or pull the model with `localhf pull`"
            )
        length = _LENGTH.unpack(start)[0] if len(start) == _LENGTH.size else 0
        if not 0 < length <= min(size - _LENGTH.size, _HEADER_LIMIT_BYTES):
            raise _damaged(path, f"it has {size} bytes and no readable header")
        header = file.read(length)
    try:
        entries = json.loads(header)
        tensors = {name: _Entry.read(entry) for name, entry in entries.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, f"its header is unreadable ({error!r})") from error
    _check_spans(path, sorted((entry.begin, entry.end) for entry in tensors.values()), size - _LENGTH.size - length)
    for name, entry in tensors.items():
        bits = _BITS.get(entry.header.dtype)  # a type that is newer than this list is not checked
        length = entry.end - entry.begin
        if bits is not None and math.prod(entry.header.shape) * bits != length * 8:
            raise _damaged(path, f"tensor {name} has {length} bytes, and its header says {entry.header}")
    return {name: entry.header for name, entry in tensors.items()}


@dataclass(frozen=True)
class _Entry:
    header: TensorHeader
    begin: int
    end: int

    @classmethod
    def read(cls, entry: dict[str, Any]) -> _Entry:
        """Reads one entry of a header; whatever is not of the right type is a TypeError."""
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(dtype, str):
            raise TypeError(dtype)
        for number in (*shape, begin, end):
            if type(number) is not int or number < 0:
                raise TypeError(number)
        return cls(TensorHeader(dtype, tuple(shape)), begin, end)


def _check_spans(path: Path, spans: list[tuple[int, int]], data_bytes: int) -> None:
    position = 0
    for begin, end in spans:
        if begin != position or end < begin:
            raise _damaged(path, "its tensors overlap or leave a gap")
        position = end
    if position != data_bytes:
        raise _damaged(path, f"it holds {data_bytes} bytes of tensors and should hold {position}")


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is truncated or damaged: {why}", hint=_PULL_AGAIN)
