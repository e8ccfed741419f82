"""Whatever a client sends, to whatever route: no mistake of the server, and an error that the client can read."""

from __future__ import annotations

import base64
import io
import json
import logging
import socket
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.routing import Route
from support import checkpoints, dual_encoders
from support.servers import RunningServer, running

from langchain_localhf.server.app import create_app
from langchain_localhf.server.settings import Limits, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.loopback
SETTINGS: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
}
PATIENCE_SECONDS = 10


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server with tiny models for everything, and small limits."""
    folder = tmp_path_factory.mktemp("served")
    models = ServerSettings(
        text=str(checkpoints.sentence_transformer(folder / "text")),
        clip=str(dual_encoders.clip(folder / "clip")),
        rerank=str(checkpoints.cross_encoder(folder / "reranker")),
        limits=Limits(body_bytes=50_000, text_bytes=2000, inputs=8, images=3, image_pixels=10_000, body_seconds=2),
    )
    with running(models) as server:
        yield server


@pytest.fixture(scope="module")
def fuzzing_client(fuzzed: RunningServer) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=fuzzed.url, trust_env=False, timeout=PATIENCE_SECONDS) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails where the server logs a mistake of its own."""
    caplog.set_level(logging.ERROR)
    yield
    assert [record.getMessage() for record in caplog.get_records("call")] == []


@pytest.fixture(scope="module")
def paths(fuzzed: RunningServer) -> list[str]:
    """All paths that the server has."""
    routes = [route for route in create_app(fuzzed.service).routes if isinstance(route, Route)]
    return sorted({route.path.replace("{model:path}", "tiny") for route in routes})


def image(mode: str, size: tuple[int, int], kind: str) -> str:
    """An image as requests hold it."""
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


IMAGES = [
    image("RGB", (9, 7), "PNG"),
    image("L", (1, 1), "JPEG"),
    image("P", (30, 30), "GIF"),
    image("RGB", (200, 200), "PNG"),  # too many pixels
    image("RGB", (9, 7), "PNG")[:60],
    "data:image/png;base64," + image("RGB", (9, 7), "PNG"),
    "aGVsbG8=",
]
TEXTS = st.text(max_size=30) | st.sampled_from(["", " ", "\x00", "\u202e", "😀" * 9, "x" * 2001, *IMAGES])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text(max_size=5), inner), max_leaves=12
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "config": st.fixed_dictionaries(
        {},
        optional={
            "pooling_strategy": st.sampled_from(["cls", "masked_mean", "?"]),
            "task_type": st.sampled_from(["query", "passage", "", "?"]),
            "dimensions": st.integers(-2, 1000),
        },
    ),
    "dimensions": st.integers(-2, 1000),
    "documents": st.lists(TEXTS | st.fixed_dictionaries({"text": TEXTS}), max_size=9),
    "encoding_format": st.sampled_from(["float", "base64", "?"]),
    "images": st.lists(st.sampled_from(IMAGES), max_size=4),
    "input": TEXTS | st.lists(TEXTS, max_size=9) | st.lists(st.integers() | st.lists(st.integers()), max_size=9),
    "inputs": TEXTS | st.lists(TEXTS, max_size=9),
    "input_type": st.sampled_from(["query", "document", "?"]),
    "model": st.sampled_from(["tiny", "text", "clip", "reranker", "gpt", ""]),
    "normalize": st.booleans(),
    "prompt_name": st.sampled_from(["query", "document", "?"]),
    "property": TEXTS,
    "query": TEXTS,
    "raw_scores": st.booleans(),
    "return_documents": st.booleans(),
    "return_text": st.booleans(),
    "text": TEXTS,
    "texts": st.lists(TEXTS, max_size=9),
    "top_n": st.integers(-2, 20),
    "truncate": st.booleans(),
    "truncation_direction": st.sampled_from(["left", "Right", "?"]),
}
BODIES = st.fixed_dictionaries({}, optional={name: field | VALUES for name, field in FIELDS.items()}) | VALUES


def check(status: int, path: str, content: bytes, headers: dict[str, str]) -> None:
    """Checks that a reply is none of a mistake, and that an error has the form of the protocol."""
    assert status != 500, content
    if status < 400:
        return
    assert headers["content-type"] == "application/json", content
    error = json.loads(content)["error"]
    if path.startswith("/v1/"):
        assert set(error) == {"message", "type", "param", "code"}
        error = error["message"]
    assert isinstance(error, str)
    assert error


@settings(max_examples=600, **SETTINGS)
@given(data=st.data(), body=BODIES)
def test_bodies(fuzzing_client: httpx.Client, paths: list[str], data: st.DataObject, body: object) -> None:
    """JSON of every shape, near the forms of the protocols, on every route."""
    path = data.draw(st.sampled_from([path for path in paths if "." not in path]))
    content = json.dumps(body).encode()
    reply = fuzzing_client.post(path, content=content, headers={"Content-Type": "application/json"})
    check(reply.status_code, path, reply.content, dict(reply.headers))


@settings(max_examples=300, **SETTINGS)
@given(
    data=st.data(),
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]),
    tail=st.sampled_from(["", "/", "?x=1", "%00", "/%2e%2e", "//", ";x", "/é", "?" + "x" * 5000]),
    content=st.binary(max_size=60) | st.just(b'{"inputs": "x", "input": "x", "text": "x", "query": "x"}'),
    content_type=st.none() | st.sampled_from(["application/json", "text/plain", "application/json; charset=\xff", ""]),
)
def test_methods_and_bytes(
    fuzzing_client: httpx.Client,
    paths: list[str],
    data: st.DataObject,
    method: str,
    tail: str,
    content: bytes,
    content_type: str | None,
) -> None:
    """Any bytes under any name, with any method, on every route and beside it."""
    path = data.draw(st.sampled_from(paths))
    headers = {} if content_type is None else {"Content-Type": content_type.encode("latin-1")}
    reply = fuzzing_client.request(method, path + tail, content=content, headers=headers)
    if method == "HEAD":
        assert reply.status_code != 500
    else:
        check(reply.status_code, path, reply.content, dict(reply.headers))


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(
            ["Content-Length", "Content-Type", "Transfer-Encoding", "Expect", "Origin", "Authorization", "Connection",
             "Upgrade", "Accept-Encoding", "X"]
        ),
        st.sampled_from(["0", "3", "-1", "9" * 30, "chunked", "100-continue", "close", "websocket", "Bearer \xff"])
        | st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20),
    ),
    max_size=5,
)  # fmt: skip


@settings(max_examples=200, **SETTINGS)
@given(data=st.data(), method=st.sampled_from(["GET", "POST", "XYZ"]), headers=HEADERS, body=st.binary(max_size=20))
def test_headers(
    fuzzed: RunningServer,
    paths: list[str],
    data: st.DataObject,
    method: str,
    headers: list[tuple[str, str]],
    body: bytes,
) -> None:
    """Headers that contradict each other or mean nothing end in a reply, or in the end of the connection."""
    path, url = data.draw(st.sampled_from(paths)), httpx.URL(fuzzed.url)
    assert url.port
    head = "".join(f"{name}: {value}\r\n" for name, value in [("Host", "x"), *headers])
    with socket.create_connection((url.host, url.port), timeout=PATIENCE_SECONDS) as raw:
        raw.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        raw.shutdown(socket.SHUT_WR)
        reply = raw.makefile("rb").readline()
    assert not reply or int(reply.split()[1]) != 500
