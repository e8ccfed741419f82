"""Keeps OpenVINO's tools from reporting their use to their maker, which they do from a process that they fork."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Their own switches; there are none that are not in the environment. Each tool reads them once in a process.
_SWITCHES = {"CI": "true", "NNCF_CI": "1"}


@contextlib.contextmanager
def telemetry_off() -> Iterator[None]:
    """Whatever starts to convert or to quantize in this context reports nothing, then or later."""
    before = {name: os.environ.get(name) for name in _SWITCHES}
    os.environ.update(_SWITCHES)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
