"""What manifests and lockfiles are made of: immutable records that refuse what they do not know."""

from __future__ import annotations

import base64
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_FLOAT32_BYTES = 4


def _inside(path: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or str(pure) != path or "\\" in path or path == ".":
        raise ValueError("must be a relative path inside the model's folder")
    return path


def _vectors(text: str) -> str:
    if len(base64.b64decode(text, validate=True)) % _FLOAT32_BYTES:
        raise ValueError("must be whole float32 numbers")
    return text


def _in_order(entries: tuple[FileEntry, ...]) -> tuple[FileEntry, ...]:
    paths = [entry.path for entry in entries]
    if paths != sorted(set(paths)):
        raise ValueError("must be sorted by path, each path once")
    return entries


RelativePath = Annotated[str, AfterValidator(_inside)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PlainData(BaseModel):
    """Immutable data that refuses what it does not know, for manifests and lockfiles."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class FileEntry(PlainData):
    """One file: its path, its size and its hash."""

    path: RelativePath
    size_bytes: Annotated[int, Field(ge=0)]
    sha256: Sha256


FileEntries = Annotated[tuple[FileEntry, ...], AfterValidator(_in_order)]


class GoldenVectors(PlainData):
    """Texts and the vectors that the model gave for them when it was checked; every later load has to give them again.

    Attributes:
        texts: The texts, embedded as documents with the model's own settings; of a cross-encoder, the texts of pairs,
            one pair after the other.
        float32_base64: The vectors, or scores, one after the other, as little-endian float32; base64 keeps the manifest
            readable. Behind the vectors of the texts there may be some of images, which the engine knows.
    """

    texts: tuple[str, ...]
    float32_base64: Annotated[str, AfterValidator(_vectors)]
