"""A reader's terminal: runs the commands of a page one after the other, and compares what it shows with what they say.

Numbers are not compared, for times and cosines belong to a machine, and `…` stands for anything.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

# What the address stands for that `localhf serve` listens at, and every page writes.
_PORT = "8080"
_SERVED = re.compile(rf"(localhost|127\.0\.0\.1):{_PORT}\b")
_SERVE = re.compile(r"(^|\s)localhf serve\b")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e-?\d+)?")
_SHELL = """
test -e {state} && . {state} >/dev/null 2>&1 && cd "$(cat {state}.cwd)"
pip() {{ :; }}
docker() {{ :; }}
make() {{ :; }}
trap 'export -p > {state}; pwd > {state}.cwd' EXIT
{command}
"""
_PATIENCE_SECONDS = 120


class Terminal:
    """A shell that remembers its folder and its variables, with one server in the background.

    `pip`, `docker` and `make` do nothing in it: the first two need a network, and `make` runs the tests that run this.

    Args:
        folder: The working folder it begins in.
        state: A file for what it remembers.
    """

    def __init__(self, folder: Path, state: Path) -> None:
        self.folder = folder
        self._state = state
        self._server: subprocess.Popen[str] | None = None
        self._port = _PORT

    def run(self, block: str) -> None:
        """Runs the commands of a block.

        Raises:
            AssertionError: A command said something else, or failed without an `error:` on the page.
        """
        for command, expected in commands(block):
            fails = expected.startswith("error: ") or "\nerror: " in expected
            said = self._serve(command) if _SERVE.search(command) else self._command(command, fails=fails)
            assert not expected or _pattern(expected).fullmatch(said.strip()), f"$ {command}\n{said}\nnot:\n{expected}"

    def served(self, text: str) -> str:
        """A text in which the usual address is that of the server that runs."""
        return _SERVED.sub(rf"\1:{self._port}", text)

    def close(self) -> None:
        """Ends the server."""
        if self._server:
            os.killpg(self._server.pid, signal.SIGTERM)
            self._server.communicate(timeout=_PATIENCE_SECONDS)
            self._server, self._port = None, _PORT

    def _command(self, command: str, *, fails: bool) -> str:
        shell = self._shell(self.served(command))
        done = subprocess.run(shell, timeout=_PATIENCE_SECONDS, check=False, **self._streams)  # noqa: S603 - a page's own
        assert (done.returncode != 0) == fails, f"$ {command}\n{done.stdout}"
        return str(done.stdout)

    def _serve(self, command: str) -> str:
        """Starts a server at a free port, and waits until its models are loaded."""
        self.close()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = str(free.getsockname()[1])
        shell = self._shell(f"{command} --port {self._port}")
        self._server = subprocess.Popen(shell, start_new_session=True, **self._streams)  # noqa: S603 - as above
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._server.poll() is None and time.monotonic() < deadline:
            try:
                if httpx.get(f"http://127.0.0.1:{self._port}/.well-known/ready").is_success:
                    assert self._server.stdout
                    return str(self._server.stdout.readline())
            except httpx.ConnectError:
                time.sleep(0.05)  # it does not listen yet
        self._server.kill()
        raise AssertionError(f"$ {command}\n{self._server.communicate()[0]}")

    def _shell(self, command: str) -> list[str]:
        return ["bash", "-c", _SHELL.format(state=shlex.quote(str(self._state)), command=command)]

    @property
    def _streams(self) -> dict[str, Any]:
        """The settings of a process: what it shows comes together, as in a terminal; its programs are this Python's."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "OMP_WAIT_POLICY": "PASSIVE"}
        return {
            "cwd": self.folder,
            "env": environment,
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.STDOUT,
            "text": True,
        }


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Each command of a block with what it is said to show, which may be nothing."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        lines = part.replace("\\\n", "").splitlines()
        yield lines[0], "\n".join(lines[1:]).strip()


def _pattern(expected: str) -> re.Pattern[str]:
    """What a text has to look like, whatever its numbers and whatever `…` stands for."""
    parts = (r"[\d.,]+(?:e-?\d+)?".join(map(re.escape, _NUMBER.split(part))) for part in expected.split("…"))
    return re.compile(".*".join(parts), re.DOTALL)
