"""What the probes of the comparison share: a guard on the network, and what they saw in words."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from importlib import import_module
from importlib.metadata import distribution
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable

# What a cell of the table says, and what was seen.
Finding = tuple[str, str]

YES, NO = "yes", "no"
TEXT = "the ship sails at dawn"
_WATCHED = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname"}
_LONGEST = 150
_HIDE = """
import sys
for name in ("torch", "transformers", "sentence_transformers"):
    sys.modules[name] = None
"""


class Network:
    """Refuses to leave this machine, and counts who tried. Waiting for another try costs no time here."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.waited = 0.0
        sys.addaudithook(self._watch)

    def _watch(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _WATCHED:
            return
        address = arguments[1] if event == "socket.connect" else arguments[0]
        host = address[0] if isinstance(address, tuple) else address
        if event == "socket.connect" and not isinstance(address, tuple):
            return  # a socket of Unix, which leads nowhere else
        self.hosts.append(str(host))
        raise OSError(f"there is no network: {event} {host}")

    def _wait(self, seconds: float) -> None:
        self.waited += seconds

    def watched(self, call: Callable[[], Any]) -> tuple[Any, str, str]:
        """Calls; what came out, the error in words if there was one, and the tries to connect in words if any."""
        self.hosts, self.waited = [], 0.0
        with patch.object(time, "sleep", self._wait):
            result, error = attempt(call)
        hosts, count = ", ".join(sorted(set(self.hosts))), len(self.hosts)
        tries = f"{count} {'try' if count == 1 else 'tries'} to reach {hosts}"
        waited = f", {self.waited:.0f} s of waiting between them" if self.waited else ""
        return result, error, f"{tries}{waited}" if hosts else ""


def attempt(call: Callable[[], Any]) -> tuple[Any, str]:
    """Calls; what came out, and the error in words if there was one."""
    try:
        return call(), ""
    except Exception as error:  # noqa: BLE001 - any error is an answer here
        return None, words(error)


def words(error: BaseException) -> str:
    """The class of an error and how its message begins, without paths of this machine."""
    line = re.sub(r"(/[\w.@+-]+){2,}/?", "…", next(iter(str(error).splitlines()), ""))
    return f"{type(error).__name__}: {line[:_LONGEST]}{'…' if len(line) > _LONGEST else ''}"


def refused(call: Callable[[], Any], otherwise: str, *, by: str = "") -> Finding:
    """Yes if the call is refused, by this error; else no, and what happened instead.

    Raises:
        LookupError: Another error came, so that somebody has to look at it.
    """
    _, error = attempt(call)
    if not error:
        return f"no: {otherwise}", f"no error; {otherwise}"
    if not by or not error.startswith(by):
        raise LookupError(f"not the error that was expected: {error}")
    return YES, error


def found_nothing(package: str, *parts: str, of: str = "", but: str = "") -> Finding:
    """No: neither a public name or module of the package nor a command of its distribution has such a part.

    Raises:
        LookupError: There is one, so that somebody has to look at it.
    """
    module = import_module(package)
    names = {*dir(module), *getattr(module, "__all__", ()), *(one.name for one in iter_modules(module.__path__))}
    commands = {one.name for one in distribution(of or package.partition(".")[0].replace("_", "-")).entry_points}
    found = {name for name in names | commands if any(part in name.lower() for part in parts) and name != but}
    if found:
        raise LookupError(f"{package} has {', '.join(sorted(found))}")
    return NO, f"no public name of {package} and no command of its distribution has {' or '.join(parts)} in it"


def without_torch(script: str, *arguments: str) -> Finding:
    """Whether a script runs to its end where torch, transformers and sentence-transformers cannot be imported."""
    command = [sys.executable, "-c", _HIDE + script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if done.returncode == 0:
        return YES, f"embedded a text, in a process in which they cannot be imported: {done.stdout.strip()}"
    last = next((line for line in reversed(done.stderr.splitlines()) if re.match(r"\w*Error", line)), "it failed")
    return NO, f"in a process in which torch cannot be imported: {last[:_LONGEST]}"
