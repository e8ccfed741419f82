"""What a server does with connections before there is a request: it reads odd ones, and does not wait for ever."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from support import compiled
from support.server_process import ServerProcess, server_process

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.loopback
HEAD_SECONDS, IDLE_SECONDS = 0.8, 2
IMPATIENT = f"""
from langchain_localhf.server import connection, running
connection._HEAD_SECONDS, running._KEEP_ALIVE_SECONDS = {HEAD_SECONDS}, {IDLE_SECONDS}
"""
FEW_FILES = "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))"
HEAD = b"POST /embed HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server that soon closes connections on which nothing happens."""
    with server_process(text=str(compiled.minilm().folder), before=IMPATIENT) as server:
        yield server


def connected(server: ServerProcess) -> socket.socket:
    """A connection to it."""
    return socket.create_connection((server.host, server.port), timeout=10)


def seconds_until_closed(connection: socket.socket) -> float:
    """How long it takes until the server closes a connection, to which it says nothing."""
    began = time.monotonic()
    assert connection.recv(1000) == b""
    return time.monotonic() - began


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_upgrade_to_another_protocol(server: ServerProcess, *, is_chunked: bool, apart: bool) -> None:
    """Clients in Java offer an upgrade with their first request; it is not taken, and the request is answered."""
    body = json.dumps({"inputs": "a red ship"}).encode()
    head = HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    if is_chunked:
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    else:
        head += b"Content-Length: %d\r\n\r\n" % len(body)
    with connected(server) as connection:
        connection.sendall(head if apart else head + body)
        if apart:
            time.sleep(0.1)
            connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


def test_endless_head(server: ServerProcess) -> None:
    """A head that does not end is refused before it takes much memory."""
    with connected(server) as connection:
        connection.sendall(HEAD)
        with pytest.raises(ConnectionError):  # noqa: PT012 - which of them fails is a matter of time
            for _ in range(100):
                connection.sendall(b"X: " + b"x" * 65_536 + b"\r\n")
            connection.recv(1)
            connection.recv(1)


def test_slow_head(server: ServerProcess) -> None:
    """A head has to end in time, though a part of it comes again and again; also after a reply."""
    for first in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
        with connected(server) as connection:
            if first:
                connection.sendall(first)
                assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            connection.sendall(HEAD)
            for _ in range(3):
                time.sleep(HEAD_SECONDS / 5)
                connection.sendall(b"X: x\r\n")
            assert seconds_until_closed(connection) < HEAD_SECONDS


def test_head_in_parts(server: ServerProcess) -> None:
    """A head that ends in time is forgotten: its reply may take longer, and so may the next request."""
    with connected(server) as connection:
        for _ in range(2):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: ")
            time.sleep(HEAD_SECONDS / 2)
            connection.sendall(b"x\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
            time.sleep(HEAD_SECONDS)


def test_silent_client(server: ServerProcess) -> None:
    """A connection on which nothing is sent at all is closed as one between two requests."""
    with connected(server) as connection:
        assert IDLE_SECONDS / 2 < seconds_until_closed(connection) < 2 * IDLE_SECONDS


def test_no_file_left() -> None:
    """More connections than the server may have files wait, which the log says once; it answers when some have left."""
    with server_process(text=str(compiled.minilm().folder), before=FEW_FILES) as server:
        idle = [connected(server) for _ in range(150)]
        time.sleep(1.5)
        for connection in idle:
            connection.close()
        with httpx.Client(trust_env=False, timeout=10) as client:
            assert client.get(f"http://{server.host}:{server.port}/health").status_code == 200
        server.process.terminate()
        status, _, logged = server.outcome()
    assert status == 0
    assert logged.count("\n") <= 1  # uvloop says nothing
