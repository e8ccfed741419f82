"""OpenVINO's own state in this process, and what keeps it from taking other people's with it.

OpenVINO's CPU plugin gives the thread that loads it a stack for signals, and takes that away when it is unloaded, in
whatever thread that is. The next signal of that thread, such as Ctrl-C, finds a stack that is gone, and ends the
process (OpenVINO 2026.4; tests/engines/openvino/test_runtime.py). So what we load stays, and what others load and
unload is loaded in a thread that does not outlive it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import openvino as ov

if TYPE_CHECKING:
    from collections.abc import Callable

_Result = TypeVar("_Result")


@cache
def core() -> ov.Core:
    """What reads and compiles models; one for this process, which is never given back."""
    return ov.Core()


def apart(function: Callable[[], _Result]) -> _Result:
    """Calls a function that loads OpenVINO anew, in a thread of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(function).result()
