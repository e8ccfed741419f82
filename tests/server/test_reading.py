"""Bodies: what is too large, too slow, no JSON or of another form is refused, in words that the client gets to read."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import requests
from support import checkpoints
from support.servers import RunningServer, running

from langchain_localhf.server.settings import MIB, Limits, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.loopback
LIMITS = Limits(body_bytes=MIB, bodies_bytes=2 * MIB, body_seconds=0.5, inputs=8, text_bytes=10_000)
GOOD = json.dumps({"inputs": "the weather is nice"}).encode()
PATIENCE_SECONDS = 10


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that takes little."""
    folder = checkpoints.sentence_transformer(tmp_path_factory.mktemp("served") / "tiny")
    with running(ServerSettings(text=str(folder), limits=LIMITS)) as server:
        yield server


@pytest.fixture
def client(small: RunningServer) -> Iterator[httpx.Client]:
    """A client of that server; it still works after the test, and holds no memory for it."""
    with httpx.Client(base_url=small.url, trust_env=False) as client:
        yield client
        assert client.post("/embed", content=GOOD, headers={"Content-Type": "application/json"}).status_code == 200
    assert small.service.bodies._held_bytes == 0


def connection(small: RunningServer) -> socket.socket:
    """A connection to the server."""
    url = httpx.URL(small.url)
    assert url.port
    return socket.create_connection((url.host, url.port), timeout=PATIENCE_SECONDS)


def reply_on(raw: socket.socket) -> tuple[int, dict[str, str], Any]:
    """The next reply on a connection: status, headers, and content."""
    stream = raw.makefile("rb")
    status = int(stream.readline().split()[1])
    headers = {}
    while line := stream.readline().decode().strip():
        name, _, value = line.partition(": ")
        headers[name.lower()] = value
    return status, headers, json.loads(stream.read(int(headers["content-length"])))


def error_of(reply: httpx.Response) -> str:
    """The error of a reply, which has the form of the protocol."""
    content = reply.json()
    if reply.request.url.path.startswith("/v1/"):
        assert set(content["error"]) == {"message", "type", "param", "code"}
        return str(content["error"]["message"])
    assert isinstance(content["error"], str)
    return str(content["error"])


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/problem+json", None],
)
def test_json_by_any_name(client: httpx.Client, content_type: str | None) -> None:
    """What is said to be JSON is read, and what is said to be nothing, as Weaviate sends it."""
    headers = {"Content-Type": content_type} if content_type else {}
    assert client.post("/embed", content=GOOD, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": ""},
        {"Content-Type": "application/jsonp"},
        {"Origin": "https://example.com"},
    ],
)
def test_what_a_page_of_another_site_may_send(client: httpx.Client, headers: dict[str, str]) -> None:
    """A form, a plain text, and a body without a name from a web page are refused: no browser asked before."""
    reply = client.post("/embed", content=GOOD, headers=headers)
    assert reply.status_code == 415
    assert "application/json" in error_of(reply)


@pytest.mark.parametrize("path", ["/embed", "/vectors", "/vectorize", "/rerank", "/v1/embeddings", "/"])
@pytest.mark.parametrize("body_bytes", [MIB + 1, 100 * MIB])
def test_too_large(client: httpx.Client, path: str, body_bytes: int) -> None:
    """A body over the limit is refused on every route, in its protocol's form, and the connection goes on."""
    reply = client.post(path, content=bytes(body_bytes), headers={"Content-Type": "application/json"})
    assert reply.status_code == 413
    assert f"larger than {MIB} bytes" in error_of(reply)


def test_too_large_for_a_client_that_sends_first(small: RunningServer) -> None:
    """requests, which reads nothing before everything is sent, gets the reply, too, also without a stated length."""
    data = bytes(20 * MIB)
    for body in (data, iter([data[:MIB]] * 20)):
        reply = requests.post(
            f"{small.url}/embed", data=body, headers={"Connection": "close"}, timeout=PATIENCE_SECONDS
        )
        assert reply.status_code == 413


def test_too_large_and_asked_before(small: RunningServer) -> None:
    """A client that asks before it sends a large body is spared to send it."""
    with connection(small) as raw:
        raw.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n")
        status, _, _ = reply_on(raw)
    assert status == 413


@pytest.mark.parametrize("length", ["1048577", "99999999999999999", "-1", "+5", "5, 6", "abc", "\u00b2"])
def test_wrong_lengths(small: RunningServer, length: str) -> None:
    """A body of a length that cannot be is refused, without waiting for it."""
    with connection(small) as raw:
        raw.sendall(f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode("latin-1"))
        assert int(raw.recv(100).split()[1]) in {400, 408, 413}


def test_slow_body(small: RunningServer) -> None:
    """A body that does not arrive in time ends the connection, with a reply that says so."""
    with connection(small) as raw:
        began = time.monotonic()
        raw.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        status, headers, content = reply_on(raw)
        assert raw.recv(1) == b""
    assert (status, headers["connection"]) == (408, "close")
    assert "0.5 seconds" in content["error"]
    assert 0.4 < time.monotonic() - began < 5
    assert small.service.bodies._held_bytes == 0


def test_client_that_leaves_while_it_sends(small: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    """A client that hangs up in the middle of its body is no error, and its memory is given back."""
    with connection(small) as raw:
        raw.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + bytes(50_000))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not small.service.bodies._held_bytes:
            assert time.monotonic() < deadline
    while small.service.bodies._held_bytes:
        assert time.monotonic() < deadline
    assert caplog.records == []


def test_all_bodies_together(small: RunningServer) -> None:
    """So much lies in memory and no more: who comes on top of it is told to come again, and then gets its turn."""
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    half = MIB - 1000
    with connection(small) as first, connection(small) as second, connection(small) as third:
        for raw in (first, second):
            raw.sendall(head % (half + 10) + bytes(half))
        deadline = time.monotonic() + 0.4
        while small.service.bodies._held_bytes < 2 * half:
            assert time.monotonic() < deadline
        third.sendall(head % half + bytes(half))
        status, headers, _ = reply_on(third)
        assert status == 429
        assert int(headers["retry-after"]) >= 1
        third.sendall(head % len(GOOD) + GOOD)
        assert reply_on(third)[0] == 200
        assert {reply_on(raw)[0] for raw in (first, second)} == {408}


NO_JSON = [
    b"",
    b" ",
    b"{",
    b"{'inputs': 'x'}",
    b'{"inputs": NaN}',
    b'{"inputs": Infinity}',
    b'{"inputs": "x"} {}',
    b'{"inputs": "\xff\xfe"}',
    b'{"inputs": "\xed\xa0\x80"}',
    b'{"inputs": "\\ud800"}',
    b'\xef\xbb\xbf{"inputs": "x"}',
    '{"inputs": "x"}'.encode("utf-16"),
    b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    b'{"inputs": 1e999}',
]
OTHER_FORMS = [
    b"null",
    b"true",
    b"1",
    b'"inputs"',
    b"[]",
    b'[{"inputs": "x"}]',
    b"{}",
    b'{"inputs": null}',
    b'{"inputs": 1}',
    b'{"inputs": {}}',
    b'{"inputs": [null]}',
    b'{"inputs": ["x", 1]}',
    b'{"inputs": [["x"]]}',
    b'{"INPUTS": "x"}',
    b'{"inputs": "x", "inputs": 1}',
    b'{"inputs": "x", "normalize": "yes"}',
    b'{"inputs": "x", "dimensions": 1.5}',
    b'{"inputs": "x", "dimensions": 123456789012345678901234567890}',
]


@pytest.mark.parametrize("body", [*NO_JSON, *OTHER_FORMS], ids=lambda body: repr(body[:40]))
@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
def test_malformed(client: httpx.Client, path: str, body: bytes) -> None:
    """What is no JSON, or of another form, is the client's error, and says what is wrong."""
    if path == "/v1/embeddings":
        body = body.replace(b'"inputs"', b'"input"').replace(b'"normalize"', b'"encoding_format"')
    reply = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert 400 <= reply.status_code < 500
    assert error_of(reply)


@pytest.mark.parametrize("inner", ["{}", "[]", "0", '""', "[0,0]"])
def test_many_values(client: httpx.Client, inner: str) -> None:
    """A body that is small and becomes large in memory is refused in no time."""
    body = f'{{"inputs": [{",".join([inner] * (MIB // 6))}]}}'.encode()
    began = time.process_time()  # the server runs in this process; others do not count
    reply = client.post("/embed", content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code in {413, 422}
    assert time.process_time() - began < 5  # coverage counts the steps, too
    assert len(reply.content) < 1000


def test_counts_and_lengths(client: httpx.Client) -> None:
    """No input, too many inputs, and too long ones are refused; as many as allowed are not."""
    asked = {inputs: client.post("/embed", json={"inputs": ["x"] * inputs}) for inputs in (0, 1, 8, 9)}
    assert {inputs: reply.status_code for inputs, reply in asked.items()} == {0: 400, 1: 200, 8: 200, 9: 413}
    assert "9 entries; at most 8" in error_of(asked[9])
    assert client.post("/embed", json={"inputs": ["x", "y " * 5000]}).status_code == 200
    reply = client.post("/embed", json={"inputs": ["x", "y " * 5001]})
    assert reply.status_code == 413
    assert "text 1 has 10002 bytes" in error_of(reply)


def test_other_clients_do_not_wait(client: httpx.Client, small: RunningServer) -> None:
    """While one client sends its body slowly, another one is answered."""
    with connection(small) as raw:
        raw.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        assert client.post("/embed", json={"inputs": "x"}).status_code == 200
        sender = threading.Thread(target=raw.sendall, args=(b" " * 99,))
        sender.start()
        sender.join()
        assert reply_on(raw)[0] == 422
