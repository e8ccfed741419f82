"""A server in a process of its own, as `localhf serve` starts it: for signals, for load, and for its exit."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCRIPT = """
import sys
from langchain_localhf.server.listening import url_of
from langchain_localhf.server.running import serve
from langchain_localhf.server.settings import Limits, ServerSettings
{before}
serve(
    ServerSettings(limits=Limits(**{limits!r}), **{settings!r}),
    port={port!r},
    on_ready=lambda listener, models: print(url_of(listener), flush=True),
)
print("ended", flush=True)
"""
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class ServerProcess:
    """A server's process.

    Attributes:
        process: The process.
        host: Where it listens.
        port: The same.
    """

    process: subprocess.Popen[str]
    host: str
    port: int

    def outcome(self, timeout_seconds: float = PATIENCE_SECONDS) -> tuple[int, str, str]:
        """Waits for its end: the exit status, and what it printed and logged after it was ready."""
        printed, logged = self.process.communicate(timeout=timeout_seconds)
        return self.process.returncode, printed, logged


def started(
    *, before: str = "", limits: dict[str, Any] | None = None, port: int = 0, **settings: Any
) -> subprocess.Popen[str]:
    """Starts a server; its first line on the standard output is its address, once it is ready.

    Args:
        before: Lines of Python that run before.
        limits: Fields of `Limits`.
        port: The port; 0 for any free one.
        settings: Fields of `ServerSettings`.
    """
    script = _SCRIPT.format(before=before, limits=limits or {}, settings=settings, port=port)
    return subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )


@contextlib.contextmanager
def server_process(**options: Any) -> Iterator[ServerProcess]:
    """Runs a server that is ready; kills it at the end, should it still run. The options are those of `started`."""
    process = started(**options)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert line, f"the server ended: {process.communicate()[1]}"
        address = urlsplit(line.strip())
        assert address.hostname
        assert address.port
        yield ServerProcess(process, address.hostname, address.port)
    finally:
        process.kill()
        process.communicate()
