"""A guard on the network: every attempt to leave this machine, or to resolve a name, is recorded and refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

# Everything that makes Hugging Face's libraries reach for the network.
ONLINE = {
    "HF_HUB_OFFLINE": "0",
    "TRANSFORMERS_OFFLINE": "0",
    "HF_ENDPOINT": "http://127.0.0.1:9",
    "HF_TOKEN": "hf_notatoken",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
}
_WATCHED = """
import json, sys
events = []
def watch(event, arguments):
    # Not the creation of a socket: urllib3 makes one when it is imported, to see whether this machine speaks IPv6.
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}:
        events.append(event)
sys.addaudithook(watch)
"""
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


def network_events(script: str, *arguments: str) -> list[str]:
    """What a script does with the network, in a process of its own whose environment invites it to.

    Args:
        script: The script; it may add to the list `events` itself.
        arguments: Its arguments.
    """
    command = [sys.executable, "-c", f"{_WATCHED}{script}\nprint(json.dumps(events))", *arguments]
    environment = {**os.environ, **ONLINE}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)  # noqa: S603 - our own
    return list(json.loads(done.stdout.splitlines()[-1]))
