"""The headers of safetensors files: which tensors a checkpoint holds, without reading one of them.

Format: https://huggingface.co/docs/safetensors (8 bytes of length, a JSON header, then the data without gaps).
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_localhf.errors import CheckpointError, IncompleteModelError

if TYPE_CHECKING:
    from pathlib import Path

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


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """The tensors of the weights in `folder` (not below it), by name; empty if it holds no safetensors weights.

    Reads `model.safetensors.index.json` where the weights are in several files.

    Raises:
        IncompleteModelError: A file that the index names is missing.
        CheckpointError: A file is truncated or damaged.
    """
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        single = folder / "model.safetensors"
        return read_header(single) if single.is_file() else {}
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError) as error:
        msg = f"{index} is damaged: {error!r}"
        raise CheckpointError(msg, hint="pull or copy the model again") from error
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        msg = f"{len(missing)} of {len(shards)} weight files of {folder} are missing: {', '.join(missing)}"
        raise IncompleteModelError(msg, missing=missing, hint="pull or copy the model again")
    return {name: tensor for shard in shards for name, tensor in read_header(folder / shard).items()}


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
        entries: dict[str, Any] = json.loads(header)
        entries.pop("__metadata__", None)
        tensors = {name: TensorHeader(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
        spans = sorted(tuple(entry["data_offsets"]) for entry in entries.values())
        lengths = {name: end - begin for name, entry in entries.items() for begin, end in [entry["data_offsets"]]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"its header is unreadable ({error!r})") from error
    _check_spans(path, spans, size - _LENGTH.size - length)
    for name, tensor in tensors.items():
        bits = _BITS.get(tensor.dtype)
        if bits is not None and math.prod(tensor.shape) * bits != lengths[name] * 8:
            raise _damaged(
                path, f"tensor {name} has {lengths[name]} bytes for shape {list(tensor.shape)} {tensor.dtype}"
            )
    return tensors


def _check_spans(path: Path, spans: list[tuple[int, int]], data_bytes: int) -> None:
    position = 0
    for begin, end in spans:
        if begin != position or end < begin:
            raise _damaged(path, "its tensors overlap or leave a gap")
        position = end
    if position != data_bytes:
        raise _damaged(path, f"it holds {data_bytes} bytes of tensors and should hold {position}")


def _damaged(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is truncated or damaged: {why}", hint="pull or copy the model again")
