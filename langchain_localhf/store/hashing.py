"""The two hashes by which files are known: SHA-256 everywhere, and git's own for what a hub lists outside LFS."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CHUNK_BYTES = 1 << 20
# A file that was written within the last tick of the clock can change again and keep its times.
_CLOCK_TICK_NS = 20_000_000

_hashes: dict[tuple[int, ...], str] = {}


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits; computed once a process while the file stays as it is."""
    status = path.stat()
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if known := _hashes.get(identity):
        return known
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - status.st_ctime_ns > _CLOCK_TICK_NS:
        _hashes[identity] = digest
    return digest


def git_sha1_of(path: Path) -> str:
    """The git blob id of a file, which the hub gives for files outside LFS."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
