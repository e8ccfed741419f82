"""Keeps OpenVINO's tools from reporting their use to their maker, which they do from a process that they fork."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# They do without it where it is not installed. It also takes longer to import than openvino itself.
_REPORTER = "openvino_telemetry"


@contextlib.contextmanager
def telemetry_off() -> Iterator[None]:
    """Whatever is imported in this context does not find the package that reports, then or later."""
    before = sys.modules.get(_REPORTER)
    sys.modules[_REPORTER] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is None:
            del sys.modules[_REPORTER]
        else:
            sys.modules[_REPORTER] = before
