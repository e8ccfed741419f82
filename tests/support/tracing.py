"""Lets threads start while coverage is measured, in spite of a fault of CPython 3.11.

Two threads that install their trace functions at the same moment disturb each other if an audit hook is written in
Python, as the suite's guard on the network is: one gets a RuntimeError, and dies before it has run anything.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

_TRIES = 1000


class _PatientSys:
    """The module `sys` as `threading` sees it, with a `settrace` that tries again."""

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)

    def settrace(self, function: Any) -> None:
        """Installs a trace function."""
        for _ in range(_TRIES):
            try:
                sys.settrace(function)
            except RuntimeError:
                time.sleep(0.001)
            else:
                return
        sys.settrace(function)


def be_patient() -> None:
    """Makes every thread that is started from now on install its trace function, if there is one, in its turn."""
    threading._sys = _PatientSys()  # type: ignore[attr-defined]
