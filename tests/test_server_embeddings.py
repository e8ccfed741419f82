"""LangChain's client of `localhf serve`, against real servers, and against one that fails as it is told."""

from __future__ import annotations

import asyncio
import base64
import copy
import gc
import json
import pickle
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import chromadb
import numpy as np
import pytest
from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from pydantic import SecretStr, ValidationError
from support import checkpoints
from support.servers import running

from langchain_localhf import HuggingFaceEmbeddings, LocalHFServerEmbeddings
from langchain_localhf.embeddings import connections
from langchain_localhf.embeddings.server import ServerError
from langchain_localhf.errors import FingerprintMismatchError, InputError
from langchain_localhf.server.settings import ServerSettings
from langchain_localhf.vectorstores import Chroma

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.loopback
TEXTS = ["The harbour lies to the south.", "", "Tax filings are due in May.", "The harbour lies to the south.", "ß"]
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def server(minilm: Path) -> Iterator[str]:
    """A server with the real all-MiniLM-L6-v2."""
    with running(ServerSettings(text=str(minilm))) as server:
        yield server.url


@pytest.fixture(scope="module")
def local(minilm: Path) -> HuggingFaceEmbeddings:
    """The same model without a server."""
    return HuggingFaceEmbeddings(model_name=str(minilm))


@pytest.fixture
def embeddings(server: str) -> LocalHFServerEmbeddings:
    """The client."""
    return LocalHFServerEmbeddings(base_url=server)


@dataclass
class Scripted:
    """A server that answers with what stands in its script, and then with vectors.

    Attributes:
        url: Its address.
        script: Statuses, headers and bodies to answer first.
        requests: The path, the headers and the body of each request.
        connections: How many connections were opened.
    """

    url: str = ""
    script: list[tuple[int, dict[str, str], bytes]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    connections: int = 0

    @property
    def inputs(self) -> list[list[str]]:
        """The texts of each request."""
        return [body["input"] for _, _, body in self.requests]

    def answer(self, path: str, headers: dict[str, str], content: bytes) -> tuple[int, dict[str, str], bytes]:
        """What to answer: from the script, else vectors that tell the length of each text."""
        body = json.loads(content or b"{}")
        self.requests.append((path, headers, body))
        if self.script:
            return self.script.pop(0)
        rows = [base64.b64encode(np.array([len(text), 1], dtype="<f4")).decode() for text in body["input"]]
        data = [{"index": index, "embedding": row} for index, row in enumerate(rows)]
        return 200, {}, json.dumps({"data": data[::-1]}).encode()


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    """A scripted server; what is tried again is tried again soon."""
    monkeypatch.setattr(connections, "_FIRST_DELAY_SECONDS", 0.01)
    state = Scripted()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            state.connections += 1

        def do_GET(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, body = state.answer(self.path, dict(self.headers), content)
            if status == 0:  # hangs up
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the name is the standard library's

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield state
        server.shutdown()
        thread.join()


class TestUnit(EmbeddingsUnitTests):
    """What every embeddings class of LangChain must do without calling a model."""

    @property
    def embeddings_class(self) -> type[LocalHFServerEmbeddings]:
        return LocalHFServerEmbeddings


class TestIntegration(EmbeddingsIntegrationTests):
    """What every embeddings class of LangChain must do with a model."""

    @pytest.fixture(autouse=True)
    def address(self, server: str) -> None:
        self.server = server

    @property
    def embeddings_class(self) -> type[LocalHFServerEmbeddings]:
        return LocalHFServerEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"base_url": self.server}


def test_same_vectors(embeddings: LocalHFServerEmbeddings, local: HuggingFaceEmbeddings) -> None:
    """A server's vectors are those of `HuggingFaceEmbeddings`."""
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), local.embed_documents(TEXTS), atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[0]), local.embed_query(TEXTS[0]), atol=1e-6)


async def test_async_is_the_same(embeddings: LocalHFServerEmbeddings) -> None:
    """The async methods give the same bits."""
    assert await embeddings.aembed_documents(TEXTS) == embeddings.embed_documents(TEXTS)
    assert await embeddings.aembed_query(TEXTS[0]) == embeddings.embed_query(TEXTS[0])
    await embeddings.aclose()


def test_facts(embeddings: LocalHFServerEmbeddings, local: HuggingFaceEmbeddings, minilm: Path) -> None:
    """The server says what the model is, and what identifies its vectors; by name or without one."""
    for named in (embeddings, embeddings.model_copy(update={"model": str(minilm)})):
        assert named.fingerprint == local.fingerprint
        assert (named.model_name, named.dimension, named.max_seq_length) == (minilm.name, 384, 256)


def test_dimensions(embeddings: LocalHFServerEmbeddings, local: HuggingFaceEmbeddings) -> None:
    """Fewer dimensions give other vectors, with a fingerprint of their own."""
    whole, short = np.asarray(local.embed_query("a")), embeddings.model_copy(update={"dimensions": 64})
    np.testing.assert_allclose(short.embed_query("a"), whole[:64] / np.linalg.norm(whole[:64]), atol=1e-6)
    assert short.dimension == 64
    shorter = embeddings.model_copy(update={"dimensions": 32})
    assert len({short.fingerprint, shorter.fingerprint, local.fingerprint}) == 3


def test_prompts(tmp_path: Path) -> None:
    """Queries and documents get the prompts that the model was saved with."""
    folder = checkpoints.sentence_transformer(tmp_path / "e5", prompts={"query": "a query ", "document": "a passage "})
    local = HuggingFaceEmbeddings(model_name=str(folder))
    with (
        running(ServerSettings(text=str(folder))) as server,
        LocalHFServerEmbeddings(base_url=server.url) as embeddings,
    ):
        np.testing.assert_allclose(embeddings.embed_query("harbour"), local.embed_query("harbour"), atol=1e-6)
        np.testing.assert_allclose(
            embeddings.embed_documents(["harbour"]), local.embed_documents(["harbour"]), atol=1e-6
        )
        assert not np.allclose(embeddings.embed_query("harbour"), embeddings.embed_documents(["harbour"])[0], atol=1e-3)


def test_chroma(tmp_path: Path, embeddings: LocalHFServerEmbeddings, local: HuggingFaceEmbeddings, tiny: Path) -> None:
    """A collection knows the model, whether a server runs it or not, and refuses another one."""
    client = chromadb.PersistentClient(tmp_path / "db")
    Chroma("notes", local, client=client).add_texts(["the ship sails at dawn", "tax filings are due"])
    store = Chroma("notes", embeddings, client=client)
    store.add_texts(["the harbour"])
    [found] = store.similarity_search("When does the boat go?", k=1)
    assert found.page_content == "the ship sails at dawn"
    with running(ServerSettings(text=str(tiny))) as other, pytest.raises(FingerprintMismatchError):
        Chroma("notes", LocalHFServerEmbeddings(base_url=other.url), client=client)


def test_another_model_behind_the_address(scripted: Scripted) -> None:
    """A server that got another model is noticed: the fingerprint is asked for whenever it matters."""
    embeddings = LocalHFServerEmbeddings(base_url=scripted.url)
    facts = {"id": "one", "dimension": 2, "max_tokens": None}
    for fingerprint in ("abc", "def"):
        described = {"data": [{"id": "reranker"}, {**facts, "fingerprint": fingerprint}]}
        scripted.script = [(200, {}, json.dumps(described).encode())]
        assert embeddings.fingerprint == fingerprint


def test_batches(scripted: Scripted) -> None:
    """Many texts are sent in several requests, each text once; every text gets its vector, whatever came first."""
    embeddings = LocalHFServerEmbeddings(base_url=scripted.url, batch_size=2)
    texts = ["aaa", "b", "aaa", "", "cc", "b", "dddd"]
    vectors = embeddings.embed_documents(text for text in texts)
    assert vectors == [[len(text), 1] for text in texts]
    assert scripted.inputs == [["aaa", "b"], ["", "cc"], ["dddd"]]
    vectors[0].append(0)
    assert vectors[2] == [3, 1]


def test_no_texts(scripted: Scripted) -> None:
    """No texts are no request."""
    assert LocalHFServerEmbeddings(base_url=scripted.url).embed_documents([]) == []
    assert scripted.requests == []


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/behind/a/proxy"])
def test_addresses(scripted: Scripted, suffix: str) -> None:
    """The address may end as that of OpenAI's clients does, and may have a path."""
    LocalHFServerEmbeddings(base_url=scripted.url + suffix).embed_query("a")
    path = "/behind/a/proxy" if "proxy" in suffix else ""
    assert scripted.requests[0][0] == f"{path}/v1/embeddings"


def test_connections_are_kept(scripted: Scripted) -> None:
    """Many requests need one connection, also from several threads in turn; closing ends it, and use opens another."""
    embeddings = LocalHFServerEmbeddings(base_url=scripted.url, batch_size=1)
    embeddings.embed_documents(["a", "b", "c"])
    with ThreadPoolExecutor(1) as threads:
        threads.submit(embeddings.embed_query, "d").result()
    assert (len(scripted.requests), scripted.connections) == (4, 1)
    with embeddings:
        embeddings.embed_query("e")
    embeddings.embed_query("f")
    assert scripted.connections == 2


def test_event_loops(scripted: Scripted) -> None:
    """Each event loop has its own connections, which end with it, closed or not; nothing is left behind."""

    async def embed(embeddings: LocalHFServerEmbeddings) -> None:
        await embeddings.aembed_documents(["a", "b", "c"])
        await asyncio.gather(*(embeddings.aembed_query(text) for text in "de"))

    async def embed_and_close(embeddings: LocalHFServerEmbeddings) -> None:
        async with embeddings:
            await embeddings.aembed_query("f")
        await embeddings.aembed_query("g")

    embeddings = LocalHFServerEmbeddings(base_url=scripted.url, batch_size=1)
    for work in (embed, embed, embed_and_close):
        asyncio.run(work(embeddings))
        assert len(embeddings._client.connections._of_loops) == 1  # not one for each loop that ever was
    assert len(scripted.requests) == 12
    assert scripted.connections <= 2 + 2 + 2
    del embeddings
    gc.collect()  # what was left open would be a warning, and so an error


async def test_dropped_in_a_loop(scripted: Scripted) -> None:
    """Embeddings that nobody closes, in a loop that goes on, end their connections too."""
    await LocalHFServerEmbeddings(base_url=scripted.url).aembed_query("a")
    gc.collect()
    await asyncio.sleep(0.01)


def test_many_threads(embeddings: LocalHFServerEmbeddings) -> None:
    """One object serves many threads at once."""
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(embeddings.embed_query, [str(number % 4) for number in range(64)]))
    assert all(found[index] == found[index % 4] for index in range(64))


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, LocalHFServerEmbeddings.model_copy, lambda one: pickle.loads(pickle.dumps(one))],
    ids=["copy", "deepcopy", "model_copy", "pickle"],
)
def test_copies(server: str, again: Any) -> None:
    """A copy, also one that went through a pickle, embeds the same with the same settings."""
    embeddings = LocalHFServerEmbeddings(base_url=server, api_key=SecretStr("unneeded"), batch_size=3)
    vector = embeddings.embed_query("a")
    copied = again(embeddings)
    embeddings.close()
    assert copied == embeddings
    assert copied.embed_query("a") == vector


@pytest.mark.parametrize(
    ("failures", "waited"),
    [
        ([(503, {}, b"")], 0),
        ([(502, {}, b""), (504, {}, b""), (408, {}, b"")], 0),
        ([(0, {}, b"")], 0),
        ([(429, {"Retry-After": "1"}, b"")], 1),
    ],
    ids=["unavailable", "several", "hangs up", "overloaded"],
)
@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "async"])
def test_tries_again(scripted: Scripted, failures: list[Any], waited: float, *, is_async: bool) -> None:
    """What may go better the next time is tried again, and not before the server wants it."""
    scripted.script = list(failures)
    embeddings = LocalHFServerEmbeddings(base_url=scripted.url)
    started = time.monotonic()
    vector = asyncio.run(embeddings.aembed_query("abc")) if is_async else embeddings.embed_query("abc")
    assert vector == [3, 1]
    assert len(scripted.requests) == len(failures) + 1
    assert time.monotonic() - started >= waited


@pytest.mark.parametrize(
    "failure",
    [(400, {}), (401, {}), (404, {}), (413, {}), (422, {}), (500, {}), (307, {"Location": "/elsewhere"})],
)
def test_does_not_try_again(scripted: Scripted, failure: tuple[int, dict[str, str]]) -> None:
    """What would go wrong again is not tried again, and no redirection is followed."""
    status, headers = failure
    scripted.script = [(status, headers, b'{"error": "said\\n\\nhint: do it"}')]
    with pytest.raises(ServerError) as caught:
        LocalHFServerEmbeddings(base_url=scripted.url).embed_query("a")
    assert caught.value.status == status
    assert len(scripted.requests) == 1
    if status != 401:
        assert (caught.value.message, caught.value.hint) == (f"{scripted.url}: said", "do it")


def test_gives_up(scripted: Scripted) -> None:
    """It is tried as often as was asked for, and not where the server wants to be left alone for an hour."""
    scripted.script = [(503, {}, b"")] * 9
    with pytest.raises(ServerError, match="503 Service Unavailable"):
        LocalHFServerEmbeddings(base_url=scripted.url, max_retries=2).embed_query("a")
    assert len(scripted.requests) == 3
    scripted.script = [(429, {"Retry-After": "3600"}, b'{"error": {"message": "too much"}}')]
    with pytest.raises(ServerError, match="too much"):
        LocalHFServerEmbeddings(base_url=scripted.url).embed_query("a")
    assert len(scripted.requests) == 4


def test_broken_connection(scripted: Scripted) -> None:
    """A server that hangs up every time is an error like the others."""
    scripted.script = [(0, {}, b"")] * 3
    with pytest.raises(ServerError, match=f"the connection to {scripted.url} broke"):
        LocalHFServerEmbeddings(base_url=scripted.url, max_retries=2).embed_query("a")


def test_retry_after_as_a_date(scripted: Scripted) -> None:
    """A server, or what stands before it, may name a time instead of a number of seconds; nonsense is ignored."""
    later = formatdate(time.time() + 2, usegmt=True)
    scripted.script = [(503, {"Retry-After": later}, b""), (503, {"Retry-After": "soon"}, b"")]
    started = time.monotonic()
    LocalHFServerEmbeddings(base_url=scripted.url).embed_query("a")
    assert 0.9 <= time.monotonic() - started <= 4


def test_slow_server(server: str) -> None:
    """A server that takes too long is not asked again, which would not help it; the error says what to change."""
    embeddings = LocalHFServerEmbeddings(base_url=server, timeout_seconds=0.001, max_retries=9)
    with pytest.raises(ServerError, match=r"0\.001 seconds") as caught:
        embeddings.embed_documents([f"{number} harbours" for number in range(100)])
    assert "timeout_seconds" in str(caught.value.hint)


def test_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no server runs, the error names the command that starts it."""
    monkeypatch.setattr(connections, "_FIRST_DELAY_SECONDS", 0.01)
    with pytest.raises(ServerError, match=f"no server answers at {NOWHERE}") as caught:
        LocalHFServerEmbeddings(base_url=NOWHERE).embed_query("a")
    assert (caught.value.status, caught.value.hint) == (None, "start it: localhf serve --text MODEL --port 9")
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    with pytest.raises(ServerError, match=r"models\.example") as caught:
        LocalHFServerEmbeddings(base_url="http://models.example:8080").embed_query("a")
    assert str(caught.value.hint).endswith("--port 8080 --host 0.0.0.0, on models.example")


def test_token(minilm: Path) -> None:
    """A server that asks for a token gets it; without one, or with another, the error says what to give."""
    with running(ServerSettings(text=str(minilm), tokens=("open sesame",))) as server:
        embeddings = LocalHFServerEmbeddings(base_url=server.url, api_key=SecretStr("open sesame"))
        assert len(embeddings.embed_query("a")) == embeddings.dimension
        assert "sesame" not in repr(embeddings)
        for key, words in ((None, "wants a token"), (SecretStr("guess"), "does not know this token")):
            with pytest.raises(ServerError, match=words) as caught:
                embeddings.model_copy(update={"api_key": key}).embed_query("a")
            assert caught.value.status == 401
            assert "api_key" in str(caught.value.hint)


def test_unknown_model(server: str, minilm: Path) -> None:
    """A model that is not served: the error names those that are."""
    embeddings = LocalHFServerEmbeddings(base_url=server, model="acme/none")
    for ask in (lambda: embeddings.embed_query("a"), lambda: embeddings.fingerprint):
        with pytest.raises(ServerError, match="'acme/none' is not served") as caught:
            ask()
        assert f"name one of '{minilm.name}'" in str(caught.value.hint)


@pytest.mark.parametrize(
    "body", [b"[]", b"no JSON", b"{}", b'{"data": [{"index": 0, "embedding": "?"}]}', b'{"data": []}']
)
def test_another_kind_of_server(scripted: Scripted, body: bytes) -> None:
    """What is no answer to the question is an error, not a vector."""
    embeddings = LocalHFServerEmbeddings(base_url=scripted.url)
    for ask in (lambda: embeddings.embed_query("a"), lambda: embeddings.fingerprint):
        scripted.script = [(200, {}, body)]
        with pytest.raises(ServerError) as caught:
            ask()
        assert "localhf serve" in str(caught.value.hint)


def test_proxies(scripted: Scripted, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment stands before other machines, and never before this one."""
    monkeypatch.setenv("HTTP_PROXY", scripted.url)
    LocalHFServerEmbeddings(base_url=server).embed_query("a")
    assert scripted.requests == []
    LocalHFServerEmbeddings(base_url="http://models.example:8080").embed_query("a")
    assert scripted.requests[0][0] == "http://models.example:8080/v1/embeddings"


@pytest.mark.parametrize("texts", ["one text", [1], None, ["a", None]])
def test_no_list_of_texts(texts: Any) -> None:
    """What is no list of texts is refused before anything is sent, as by `HuggingFaceEmbeddings`."""
    with pytest.raises(InputError):
        LocalHFServerEmbeddings(base_url=NOWHERE).embed_documents(texts)


@pytest.mark.parametrize(
    "fields",
    [
        {"base_url": "127.0.0.1:8080"},
        {"base_url": "ftp://127.0.0.1"},
        {"base_url": ""},
        {"base_url": "http://"},
        {"base_url": "http://[::1"},
        {"base_url": "http://127.0.0.1?model=a"},
        {"api_key": SecretStr("")},
        {"api_key": SecretStr("naïve")},
        {"api_key": SecretStr("two\nlines")},
    ],
)
def test_bad_settings(fields: dict[str, Any]) -> None:
    """An address or a key that cannot be used is refused when the object is made."""
    with pytest.raises(InputError) as caught:
        LocalHFServerEmbeddings(**fields)
    assert caught.value.hint


@pytest.mark.parametrize("fields", [{"batch_size": 0}, {"dimensions": 0}, {"modell": "a"}, {"timeout_seconds": -1}])
def test_misspelt_settings(fields: dict[str, Any]) -> None:
    """What cannot be a setting is refused."""
    with pytest.raises(ValidationError):
        LocalHFServerEmbeddings(**fields)


def test_forked(server: str) -> None:
    """A process that was forked opens connections of its own."""
    program = f"""
import os
from langchain_localhf import LocalHFServerEmbeddings
embeddings = LocalHFServerEmbeddings(base_url={server!r})
vector = embeddings.embed_query("a")
child = os.fork()
for _ in range(20):
    assert embeddings.embed_query("a") == vector
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)  # noqa: S603 - our own


def test_needs_no_engine() -> None:
    """The client loads no framework, and no engine."""
    modules = ("torch", "transformers", "sentence_transformers", "openvino", "starlette")
    program = f"""
import sys
from langchain_localhf import LocalHFServerEmbeddings
LocalHFServerEmbeddings()
print([module for module in {modules} if module in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)  # noqa: S603 - our own
    assert done.stdout.strip() == "[]"
