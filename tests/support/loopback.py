"""Runs a command in a new network namespace with its loopback device up, which a new namespace leaves down.

`unshare --net python loopback.py pytest` gives tests their own 127.0.0.1 and nothing else.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys

_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 0x1

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    request = struct.pack("16sh", b"lo", 0)
    (flags,) = struct.unpack_from("16xh", fcntl.ioctl(control, _GET_FLAGS, request))
    fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sh", b"lo", flags | _UP))

os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - running the given command is the purpose
