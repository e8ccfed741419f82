"""A guard on the network: every attempt to leave this machine, or to resolve a name, is recorded and refused."""

from __future__ import annotations

import sys
from typing import Any

_EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
_LOOPBACK = {"127.0.0.1", "::1", "localhost", None, ""}


class NetworkGuard:
    """Refuses connections while it is on. Audit hooks cannot be removed, so one guard serves the whole run."""

    def __init__(self) -> None:
        self.on = False
        self.loopback_allowed = False
        self.attempts: list[str] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in _EVENTS:
            return
        host = _host(event, arguments)
        if host is _UNIX or (self.loopback_allowed and host in _LOOPBACK):
            return
        self.attempts.append(f"{event} {host}")
        message = f"the network guard refused {event} {host}"
        raise OSError(message)


_UNIX = object()


def _host(event: str, arguments: tuple[Any, ...]) -> object:
    address = arguments[0] if event in {"socket.getaddrinfo", "socket.gethostbyname"} else arguments[1]
    if event in {"socket.connect", "socket.sendto"}:
        return address[0] if isinstance(address, tuple) else _UNIX
    return address
