"""The address that a server listens at, taken before anything is loaded."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket

from langchain_localhf.errors import LocalHFError

# Connections that wait while the server is busy; the system may allow fewer.
_BACKLOG = 2048
_HINTS = {
    errno.EADDRINUSE: "use another --port, or end the program that has this one",
    errno.EACCES: "use a --port from 1024 on; lower ones are the administrator's",
    errno.EADDRNOTAVAIL: "use a --host that this machine has, such as 127.0.0.1, or 0.0.0.0 for all of them",
}


class AddressError(LocalHFError):
    """The server cannot listen at this address.

    Cause:
        Another program has the port, the port is below 1024 and you are not the administrator, or `--host` is no
        address of this machine.

    Fix:
        Use another `--port`, or `--port 0` for any free one; `--host 0.0.0.0` stands for every address of this machine.
    """


def listen(host: str, port: int) -> socket.socket:
    """Takes an address for this process.

    Args:
        host: A name or an IP address of this machine; `0.0.0.0` or `::` for all that it has.
        port: The port; 0 for any free one.

    Raises:
        AddressError: There is no such address here, or it is taken.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name such as localhost stands for both kinds; most clients try the older one first.
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        both = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(address, family=family, backlog=_BACKLOG, dualstack_ipv6=both)
    except OSError as error:
        # The standard library repeats the address in its text.
        reason = os.strerror(error.errno) if not isinstance(error, socket.gaierror) and error.errno else error.strerror
        msg = f"cannot listen at {host}, port {port}: {reason or error}"
        raise AddressError(msg, hint=_HINTS.get(error.errno or 0, "use --host and --port of this machine")) from error


def url_of(listener: socket.socket) -> str:
    """The address for clients on this machine."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_local(listener: socket.socket) -> bool:
    """Whether only programs on this machine reach the address."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback
