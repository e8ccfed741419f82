"""Makes a folder the root of a file system, as a container has it, for a process that changes its root to it.

    unshare --map-root-user --mount python container_root.py FOLDER read-only=1 host=/usr tmpfs=/tmp

It says `ready`, and holds the namespaces until its standard input ends. What it shows of this machine is read-only
throughout; the folder itself if this is asked for.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

_MOUNT_SETATTR, _HERE, _RECURSIVE, _READ_ONLY = 442, -100, 0x8000, 0x1
# What the kernel shows; a container has these, too.
_KERNEL = ("/proc", "/dev", "/sys")


def mount(*arguments: str) -> None:
    """Calls the program of that name."""
    subprocess.run(["mount", *arguments], check=True)  # noqa: S603, S607 - our own


def make_read_only(path: str, flags: int) -> None:
    """Lets nobody write below a mount; it keeps the other attributes, which a namespace may not take away."""
    attributes = (ctypes.c_uint64 * 4)(_READ_ONLY, 0, 0, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_MOUNT_SETATTR, _HERE, path.encode(), flags, attributes, ctypes.c_size_t(32)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)


def main(root: str, *options: str) -> None:
    """Mounts, says so, waits."""
    stated = [option.split("=", 1) for option in options]
    mount("--bind", root, root)
    for path in (value for key, value in stated if key == "tmpfs"):
        os.makedirs(root + path, exist_ok=True)  # noqa: PTH103 - paths of another root are texts
        mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", root + path)
    for path in (*(value for key, value in stated if key == "host"), *_KERNEL):
        os.makedirs(root + path, exist_ok=True)  # noqa: PTH103 - as above
        mount("--rbind", path, root + path)
        if path not in _KERNEL:
            make_read_only(root + path, _RECURSIVE)
    if ["read-only", "1"] in stated:
        make_read_only(root, 0)
    print("ready", flush=True)  # noqa: T201 - to whoever started it
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
