"""Room on the disk: asked for before anything is written, and named when it runs out."""

from __future__ import annotations

import contextlib
import errno
import shutil
from typing import TYPE_CHECKING

from langchain_localhf.errors import PullError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_STEP = 1000
_UNITS = ("kB", "MB", "GB", "TB")


def formatted_size(size_bytes: float) -> str:
    """A size for people, in powers of 1000 as disks are sold: `90.9 MB`."""
    if size_bytes < _STEP:
        return f"{size_bytes:.0f} B"
    unit = _UNITS[0]
    for unit in _UNITS:  # noqa: B007 - the last unit serves whatever is larger
        size_bytes /= _STEP
        if round(size_bytes, 1) < _STEP:
            break
    return f"{size_bytes:.1f} {unit}"


def free_bytes(folder: Path) -> int:
    """How much may still be written to the disk of `folder`, which must be there."""
    return shutil.disk_usage(folder).free


def require_space(what: str, size_bytes: int, folder: Path) -> None:
    """Checks that there is room for `size_bytes` more in `folder`.

    Raises:
        PullError: There is not.
    """
    if size_bytes > free_bytes(folder):
        raise _disk_full(what, size_bytes, folder)


def is_disk_full(error: BaseException) -> bool:
    """Whether the error says that the disk, or the user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in _DISK_FULL


@contextlib.contextmanager
def disk_full_named(what: str, size_bytes: int, folder: Path) -> Iterator[None]:
    """Turns the error of a disk that fills up while `what` is written to `folder` into one that says so.

    Raises:
        PullError: The disk is full.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise _disk_full(what, size_bytes, folder) from error


def _disk_full(what: str, size_bytes: int, folder: Path) -> PullError:
    sizes = f"needs {formatted_size(size_bytes)}, {formatted_size(free_bytes(folder))} free in {folder}"
    return PullError(f"{what} {sizes}", hint="make room there, or set LOCALHF_HOME to a folder on a larger disk")
