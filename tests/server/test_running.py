"""How a server starts and ends: with what was accepted answered, in time, and with an exit status that says so."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from support import compiled
from support.server_process import PATIENCE_SECONDS, ServerProcess, server_process, started

from langchain_localhf.server import running

if TYPE_CHECKING:
    from collections.abc import Iterator

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from serving_worker import Connection

pytestmark = pytest.mark.loopback
CLIENTS = 16


@pytest.fixture(scope="module")
def model() -> str:
    """The folder of the real all-MiniLM-L6-v2, compiled, so that a server starts in no time; do not change it."""
    return str(compiled.minilm().folder)


@pytest.fixture
def server(model: str) -> Iterator[ServerProcess]:
    """A server in a process of its own."""
    with server_process(text=model, drain_seconds=2) as server:
        yield server


def url(server: ServerProcess, path: str) -> str:
    """The address of one of its pages."""
    return f"http://{server.host}:{server.port}{path}"


async def ask_until_refused(
    server: ServerProcess, name: str, pause_seconds: float, *, keeps: bool
) -> tuple[int, list[str]]:
    """How many replies a client got that asks on and on, until it cannot connect any more; and what went wrong."""
    connection, replies, text = Connection(server.host, server.port), 0, "the weather is nice " * 8
    while True:
        body = json.dumps({"input": f"{name} {replies} {text}"}).encode()
        try:
            status, _, content = await connection.ask("POST", "/v1/embeddings", body)
        except ConnectionRefusedError:
            return replies, []
        except ConnectionError as error:
            return replies, [repr(error)]
        if status != 200 or len(json.loads(content)["data"][0]["embedding"]) != 384:
            return replies, [content.decode()]
        replies += 1
        if not keeps:
            connection.close()
        await asyncio.sleep(pause_seconds)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_signal_under_load(model: str, ending: signal.Signals) -> None:
    """In the middle of load, every request on a connection gets its whole reply; then it ends as planned."""
    with server_process(text=model) as server:
        clients = [
            asyncio.create_task(ask_until_refused(server, f"client {number}", 0.1 * (number % 4), keeps=number % 8 < 4))
            for number in range(CLIENTS)
        ]
        await asyncio.sleep(1)
        server.process.send_signal(ending)
        outcomes = await asyncio.wait_for(asyncio.gather(*clients), PATIENCE_SECONDS)
        assert [problem for _, problems in outcomes for problem in problems] == []
        assert all(replies for replies, _ in outcomes)
        assert server.outcome() == (0, "ended\n", "")


def test_goodbye(server: ServerProcess) -> None:
    """A server that ends says first that it is not ready, answers, and asks every client to go elsewhere."""
    with httpx.Client(trust_env=False) as client:
        assert client.get(url(server, "/.well-known/ready")).status_code == 204
        server.process.terminate()
        deadline = time.monotonic() + 5
        while (ready := client.get(url(server, "/.well-known/ready"))).status_code != 503:
            assert time.monotonic() < deadline
        assert "shuts down" in ready.json()["error"]
        assert client.get(url(server, "/.well-known/live")).status_code == 204
        reply = client.post(url(server, "/embed"), json={"inputs": "one more"})
    assert reply.status_code == 200
    assert reply.headers["connection"] == "close"
    assert server.outcome()[0] == 0


def test_idle_clients_do_not_hold_it_up(server: ServerProcess) -> None:
    """Connections that nothing happens on, and one that never sends the rest of its request head, are closed."""
    with httpx.Client(trust_env=False) as client:
        client.get(url(server, "/health"))
        with socket.create_connection((server.host, server.port)) as silent:
            silent.sendall(b"POST /embed HTTP/1.1\r\nHost: ")
            began = time.monotonic()
            server.process.terminate()
            assert server.outcome()[0] == 0
    assert time.monotonic() - began < 2  # sooner than drain_seconds


def test_who_never_reads_does_not_hold_it_up_for_long(server: ServerProcess) -> None:
    """A client that does not read its reply, or does not send its body, is left behind when the time is over."""
    body = json.dumps({"inputs": [f"text {number}" for number in range(2000)]}).encode()
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with (
        socket.create_connection((server.host, server.port)) as deaf,
        socket.create_connection((server.host, server.port)) as dumb,
    ):
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        for _ in range(20):
            deaf.sendall(head + body)
        dumb.sendall(head)
        time.sleep(1)
        began = time.monotonic()
        server.process.terminate()
        assert server.outcome()[0] == 0
    assert 1.5 < time.monotonic() - began < 10


def test_second_signal(server: ServerProcess) -> None:
    """Whoever asks twice does not wait."""
    with socket.create_connection((server.host, server.port)) as dumb:
        dumb.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.7)
        began = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        assert server.outcome()[0] == 128 + signal.SIGINT
    assert time.monotonic() - began < 1


def test_signal_while_models_load(model: str) -> None:
    """Loading cannot be interrupted, and nobody waits for its end."""
    slow = (
        "import time, langchain_localhf.server.models as models\n"
        "models.load_encoder = lambda *_, **__: (print('loading', flush=True), time.sleep(60))"
    )
    process = started(text=model, before=slow)
    assert process.stdout
    assert process.stdout.readline() == "loading\n"
    began = time.monotonic()
    process.terminate()
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - began < 2


def test_alive_while_models_load(model: str) -> None:
    """While models load, the server is alive and not ready, and says why."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    slow = (
        "import time, langchain_localhf.server.models as models\n"
        "load = models.load_encoder\n"
        "models.load_encoder = lambda *a, **b: (print('loading', flush=True), time.sleep(1), load(*a, **b))[2]"
    )
    process = started(text=model, before=slow, port=port)
    try:
        assert process.stdout
        assert process.stdout.readline() == "loading\n"
        with httpx.Client(trust_env=False, base_url=f"http://127.0.0.1:{port}") as client:
            assert client.get("/.well-known/live").status_code == 204
            for path in ("/.well-known/ready", "/health"):
                reply = client.get(path)
                assert (reply.status_code, reply.json()["error_type"]) == (503, "Unhealthy")
            assert client.post("/v1/embeddings", json={"input": "too soon"}).status_code == 503
            assert process.stdout.readline().startswith("http://")
            assert client.get("/.well-known/ready").status_code == 204
    finally:
        process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)


def test_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    """A server without its models ends, with the error."""
    process = started(text=str(tmp_path / "nowhere"))
    printed, logged = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert printed == ""
    assert "nowhere" in logged.splitlines()[-3] + logged.splitlines()[-1]
    assert "ended" not in printed


def test_port_in_use(server: ServerProcess, model: str) -> None:
    """A port that another program has is told before any model is loaded."""
    began = time.monotonic()
    process = started(text=model, port=server.port)
    printed, logged = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert printed == ""
    assert "AddressError" in logged
    assert f"port {server.port}" in logged
    assert time.monotonic() - began < PATIENCE_SECONDS


def test_keep_alive(server: ServerProcess) -> None:
    """A connection stays open after its reply, for longer than Weaviate's clients keep one idle."""
    assert running._KEEP_ALIVE_SECONDS >= 120
    with socket.create_connection((server.host, server.port), timeout=6) as idle:
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")
        with pytest.raises(TimeoutError):  # uvicorn's own limit is 5 seconds
            idle.recv(1)
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200")


def test_writes_nothing(model: str) -> None:
    """The server writes no file, so it runs without rights, and on a read-only file system."""
    refuse = f"""
import os, sys
def refuse(event, arguments):
    if event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and arguments[0] != "/dev/null":
        raise OSError({errno.EROFS}, "read-only file system", arguments[0])
    if event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"):
        raise OSError({errno.EROFS}, "read-only file system", str(arguments[0]))
sys.addaudithook(refuse)
sys.dont_write_bytecode = True
"""
    with server_process(text=model, before=refuse) as server:
        with httpx.Client(trust_env=False) as client:
            assert client.post(url(server, "/embed"), json={"inputs": "one"}).status_code == 200
        server.process.terminate()
        status, _, logged = server.outcome()
    assert (status, logged) == (0, "")
