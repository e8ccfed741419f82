"""Around every request: tokens, errors in the protocol's form, numbers, and clients that hang up."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import checkpoints
from support.servers import RunningServer, running

from langchain_localhf.server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langchain_localhf.engines.base import Encoder

pytestmark = pytest.mark.loopback
PATIENCE_SECONDS = 10
TOKENS = ("first token", "zweites Schlüsselwort")


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model; do not change it."""
    return checkpoints.sentence_transformer(tmp_path_factory.mktemp("served") / "tiny")


@pytest.fixture(scope="module")
def tiny_server(tiny_folder: Path) -> Iterator[RunningServer]:
    """A server with a tiny model."""
    with running(ServerSettings(text=str(tiny_folder))) as server:
        yield server


@pytest.fixture
def tiny_client(tiny_server: RunningServer) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=tiny_server.url, trust_env=False, timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture(scope="module")
def closed_client(tiny_folder: Path) -> Iterator[httpx.Client]:
    """A client of a server that asks for a token."""
    with (
        running(ServerSettings(text=str(tiny_folder), tokens=TOKENS)) as server,
        httpx.Client(base_url=server.url, trust_env=False) as client,
    ):
        yield client


def encoder_of(server: RunningServer) -> Encoder:
    """The engine of the server's model for texts."""
    assert server.service.models.texts is not None
    return server.service.models.texts.loaded.encoder


def numbers_of(client: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The server's numbers, as Prometheus reads them."""
    reply = client.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(text_string_to_metric_families(reply.text))
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
@pytest.mark.parametrize("token", TOKENS)
def test_token(closed_client: httpx.Client, scheme: str, token: str) -> None:
    """Who sends one of the tokens is let in."""
    headers = {"Authorization": f"{scheme} {token}".encode()}
    assert closed_client.post("/embed", json={"inputs": "x"}, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer wrong", "Basic first token", "first token", "Bearer first toke"]
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/"),  # an alias of /embed, though GET shows a page to everybody
        ("POST", "/embed"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("GET", "/meta"),
        ("GET", "/nowhere"),
        ("POST", "/metrics"),
        ("POST", "//health"),
    ],
)
def test_no_token(closed_client: httpx.Client, method: str, path: str, authorization: str) -> None:
    """Who sends none of the tokens learns nothing, in the form of the protocol."""
    headers = {"Authorization": authorization} if authorization else {}
    reply = closed_client.request(method, path, headers=headers, json={"inputs": "x", "input": "x"})
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    error = reply.json()["error"]
    assert (error["message"] if path.startswith("/v1/") else error) == "Unauthorized"


@pytest.mark.parametrize("path", ["/", "/health", "/ping", "/metrics", "/.well-known/live", "/.well-known/ready"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_open_paths(closed_client: httpx.Client, method: str, path: str) -> None:
    """Orchestrators need no token."""
    reply = closed_client.request(method, path)
    assert reply.status_code in {200, 204}
    assert method == "GET" or reply.content == b""


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("POST", "/v1/nowhere", 404),
        ("GET", "/embed", 405),
        ("PUT", "/v1/embeddings", 405),
        ("OPTIONS", "/embed", 405),
        ("DELETE", "/metrics", 405),
        ("BREW", "/embed", 405),
        ("GET", "/%ff%00/../x", 404),
    ],
)
def test_no_such_route(tiny_client: httpx.Client, method: str, path: str, status: int) -> None:
    """What is not served is told in the form of the protocol, and counted without its name."""
    reply = tiny_client.request(method, path)
    if method == "BREW" and reply.status_code == 400:  # the faster of uvicorn's two parsers does not know it
        return
    assert reply.status_code == status
    assert reply.json()["error"]
    labels = {labels for name, labels in numbers_of(tiny_client) if name == "localhf_request_seconds_count"}
    assert all("nowhere" not in dict(label)["path"] for label in labels)
    assert any(dict(label) == {"path": "other", "status": "404"} for label in labels) or status != 404


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
def test_mistake_in_the_server(
    tiny_server: RunningServer,
    tiny_client: httpx.Client,
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What nobody foresaw is a 500 that tells nothing, one entry in the log that tells all, and one in the numbers."""

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("/secret/path")

    monkeypatch.setattr(encoder_of(tiny_server), "encode", broken)
    caplog.set_level(logging.WARNING)
    reply = tiny_client.post(path, json={"inputs": f"broken {path}", "input": f"broken {path}"})
    assert reply.status_code == 500
    assert "secret" not in reply.text
    assert "Traceback" not in reply.text
    assert reply.json()["error"]
    [record] = caplog.records
    assert record.exc_info
    assert "/secret/path" in str(record.exc_info[1])
    assert numbers_of(tiny_client)["localhf_request_seconds_count", frozenset({("path", path), ("status", "500")})] == 1


def test_not_finite(
    tiny_server: RunningServer,
    tiny_client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A text that the model gives no numbers for fails, in words, and is logged; others in its batch are answered."""
    encode = encoder_of(tiny_server).encode

    def overflowing(texts: Any, **options: Any) -> Any:
        vectors = encode(texts, **options)
        vectors[[row for row, text in enumerate(texts) if "bad" in text], 0] = float("inf")
        return vectors

    monkeypatch.setattr(encoder_of(tiny_server), "encode", overflowing)
    reply = tiny_client.post("/embed", json={"inputs": ["good one", "bad one"]})
    assert reply.status_code == 500
    assert "no finite number" in reply.json()["error"]
    assert len(caplog.records) == 1
    assert tiny_client.post("/embed", json={"inputs": ["good one"]}).status_code == 200


def test_numbers(tiny_client: httpx.Client) -> None:
    """The numbers are valid, and move with what happens."""
    of_model, of_path = frozenset({("model", "texts")}), frozenset({("path", "/embed"), ("status", "200")})
    before = numbers_of(tiny_client)
    assert tiny_client.post("/embed", json={"inputs": ["one new text", "another new text"]}).status_code == 200
    after = numbers_of(tiny_client)

    def moved(name: str, labels: frozenset[tuple[str, str]]) -> float:
        return after[name, labels] - before.get((name, labels), 0)

    assert moved("localhf_batch_items_sum", of_model) == 2
    assert moved("localhf_batch_seconds_count", of_model) == 1
    assert moved("localhf_computed_tokens_total", of_model) > 2
    assert moved("localhf_request_seconds_count", of_path) == 1
    assert after["localhf_queue_tokens", of_model] == 0


def test_client_that_hangs_up(
    tiny_server: RunningServer, tiny_client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits for a client that has left is not computed, and frees its place in the queue at once."""
    released, computed, inference = threading.Event(), [], tiny_server.service.models.texts
    assert inference is not None
    encode = encoder_of(tiny_server).encode

    def held(texts: Any, **options: Any) -> Any:
        computed.extend(texts)
        assert released.wait(PATIENCE_SECONDS)
        return encode(texts, **options)

    monkeypatch.setattr(encoder_of(tiny_server), "encode", held)
    url = httpx.URL(tiny_server.url)
    assert url.port
    with contextlib.ExitStack() as clients:
        for number in range(2):
            raw = clients.enter_context(socket.create_connection((url.host, url.port)))
            body = json.dumps({"inputs": f"hangs up {number}"}).encode()
            raw.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            until(lambda number=number: computed and (not number or inference._batcher._turns.tokens))  # type: ignore[misc]
    until(lambda: not inference._batcher._turns.tokens)
    released.set()
    assert tiny_client.post("/embed", json={"inputs": "stays"}).status_code == 200
    assert computed == ["hangs up 0", "stays"]
    left = frozenset({("path", "/embed"), ("status", "left")})
    assert numbers_of(tiny_client)["localhf_request_seconds_count", left] == 2


def until(is_reached: Any) -> None:
    """Waits for something that another thread does."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)
