"""OpenAI's protocol, as its own clients, LangChain's and Chroma's speak it."""

from __future__ import annotations

import base64
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import openai
import pytest
from chromadb.utils.embedding_functions import OpenAIEmbeddingFunction
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr
from support import checkpoints

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.server.settings import Limits, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.servers import RunningServer

pytestmark = pytest.mark.loopback
TEXTS = ["The harbour lies to the south.", "", "Tax filings are due in May.", "The harbour lies to the south."]


@pytest.fixture(scope="module")
def local(minilm: Path) -> HuggingFaceEmbeddings:
    """The same model without a server."""
    return HuggingFaceEmbeddings(model_name=str(minilm))


@pytest.fixture
def sdk(server: str) -> Iterator[openai.OpenAI]:
    """OpenAI's own client."""
    with openai.OpenAI(base_url=f"{server}/v1", api_key="none") as sdk:
        yield sdk


def is_refused(reply: httpx.Response, status: int, words: str) -> bool:
    """Whether a reply is an error in the form that OpenAI's clients read."""
    error = reply.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return reply.status_code == status and words in error["message"]


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}], ids=["base64", "float"])
def test_sdk(sdk: openai.OpenAI, local: HuggingFaceEmbeddings, minilm: Path, encoding: Any) -> None:
    """OpenAI's client gets the vectors of `HuggingFaceEmbeddings`, in order, bit by bit, however they are written."""
    reply = sdk.embeddings.create(model=minilm.name, input=TEXTS, **encoding)
    assert [item.index for item in reply.data] == [0, 1, 2, 3]
    vectors = np.asarray([item.embedding for item in reply.data], dtype=np.float32)
    np.testing.assert_allclose(vectors, local.embed_documents(TEXTS), atol=1e-6)
    assert vectors[0].tobytes() == vectors[3].tobytes()
    assert reply.model == minilm.name


async def test_async_sdk(server: str, local: HuggingFaceEmbeddings, minilm: Path) -> None:
    """OpenAI's async client gets the same; a single text is a list of one."""
    async with openai.AsyncOpenAI(base_url=f"{server}/v1", api_key="none") as sdk:
        reply = await sdk.embeddings.create(model=minilm.name, input=TEXTS[0])
    [item] = reply.data
    np.testing.assert_allclose(item.embedding, local.embed_query(TEXTS[0]), atol=1e-6)


def test_formats_hold_the_same_numbers(client: httpx.Client) -> None:
    """Base64 is little-endian float32, and says to the last bit what the list of numbers says."""
    body = {"input": TEXTS[:2]}
    numbers = client.post("/v1/embeddings", json=body).json()["data"]
    encoded = client.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()["data"]
    for row, text in zip(numbers, encoded, strict=True):
        stored = np.asarray(row["embedding"], dtype="<f4").tobytes()
        assert base64.b64decode(text["embedding"]) == stored


def test_usage(sdk: openai.OpenAI, minilm: Path) -> None:
    """The usage counts the tokens that the model read: with its marks, without what was cut off."""
    usage = sdk.embeddings.create(model=minilm.name, input=["harbour", "word " * 1000]).usage
    assert usage.prompt_tokens == usage.total_tokens == 3 + 256


def test_langchain(server: str, local: HuggingFaceEmbeddings, minilm: Path) -> None:
    """`langchain_openai` works once it sends texts."""
    embeddings = OpenAIEmbeddings(
        model=minilm.name, base_url=f"{server}/v1", api_key=SecretStr("none"), check_embedding_ctx_length=False
    )
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), local.embed_documents(TEXTS), atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[0]), local.embed_query(TEXTS[0]), atol=1e-6)


def test_langchain_sends_token_ids(server: str, minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is by default, it sends token ids of OpenAI's models: it is told which flag to set."""

    class Encoding:
        """In the place of tiktoken's, which would be downloaded."""

        def encode_ordinary(self, text: str) -> list[int]:
            return list(text.encode())

        encode = encode_ordinary

    monkeypatch.setattr("tiktoken.encoding_for_model", lambda _: Encoding())
    embeddings = OpenAIEmbeddings(model=minilm.name, base_url=f"{server}/v1", api_key=SecretStr("none"))
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        embeddings.embed_documents(["a"])


def test_chroma(server: str, local: HuggingFaceEmbeddings, minilm: Path) -> None:
    """Chroma's own function for OpenAI works."""
    with pytest.warns(DeprecationWarning, match="api_key"):
        function = OpenAIEmbeddingFunction(api_key="none", api_base=f"{server}/v1", model_name=minilm.name)
    np.testing.assert_allclose(function(TEXTS), local.embed_documents(TEXTS), atol=1e-6)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])
def test_paths(client: httpx.Client, path: str) -> None:
    """Clients of infinity and TEI ask without `/v1`."""
    assert client.post(path, json={"input": "a"}).json()["object"] == "list"


def test_dimensions(sdk: openai.OpenAI, local: HuggingFaceEmbeddings, minilm: Path) -> None:
    """Fewer dimensions are the first ones, in a vector of length 1; all of them are the vector itself."""
    whole = np.asarray(local.embed_query(TEXTS[0]))
    [short] = sdk.embeddings.create(model=minilm.name, input=TEXTS[0], dimensions=100).data
    np.testing.assert_allclose(short.embedding, whole[:100] / np.linalg.norm(whole[:100]), atol=1e-6)
    [same] = sdk.embeddings.create(model=minilm.name, input=TEXTS[0], dimensions=384).data
    np.testing.assert_allclose(same.embedding, whole, atol=1e-6)


def test_lengths(client: httpx.Client, clip: Path) -> None:
    """Vectors that the model does not scale are left as they are, unless dimensions are stated."""
    body = {"model": clip.name, "input": ["the harbour", "the weather"]}
    whole, stated = (
        np.asarray([item["embedding"] for item in client.post("/v1/embeddings", json=body | more).json()["data"]])
        for more in ({}, {"dimensions": 16})
    )
    lengths = np.linalg.norm(whole, axis=1, keepdims=True)
    assert not np.allclose(lengths, 1, atol=0.01)
    np.testing.assert_allclose(stated, whole / lengths, atol=1e-6)


def test_long_texts(client: httpx.Client) -> None:
    """A header names the texts that the model did not read to their end."""
    reply = client.post("/v1/embeddings", json={"input": ["short", "word " * 1000, "short"]})
    assert reply.headers["x-truncated-inputs"] == "1"
    assert "x-truncated-inputs" not in client.post("/v1/embeddings", json={"input": "short"}).headers


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"input": []}, "input is empty"),
        ({"input": [1, 2]}, "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, "check_embedding_ctx_length=False"),
        ({"input": ["a", None]}, "input[1] is no text"),
        ({"input": [True]}, "input[0] is no text"),
        ({"input": {"text": "a"}}, "neither a text nor a list"),
        ({"input": "a", "dimensions": 0}, "dimensions is 0; a vector of model has 384"),
        ({"input": "a", "dimensions": 385}, "ask for 1 to 384"),
        ({"input": "a", "dimensions": "12"}, "dimensions"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "a", "input_type": "image"}, "input_type"),
        ({"texts": ["a"]}, "input: Field required"),
    ],
)
def test_refused(client: httpx.Client, body: dict[str, Any], words: str) -> None:
    """A request that cannot be answered says what is wrong with it, in OpenAI's form."""
    assert is_refused(client.post("/v1/embeddings", json=body), 400, words)


def test_many_inputs(client: httpx.Client) -> None:
    """A request holds as many texts as LangChain and OpenAI send, and no more."""
    body = {"input": [str(number % 7) for number in range(2048)], "encoding_format": "base64"}
    assert len(client.post("/v1/embeddings", json=body).json()["data"]) == 2048
    body["input"] = [*body["input"], "one more"]
    assert is_refused(client.post("/v1/embeddings", json=body), 413, "at most 2048")


def test_unknown_model(sdk: openai.OpenAI, minilm: Path, clip: Path) -> None:
    """A model that is not served is not found, also where only another role has it; the answer names those served."""
    for name in ("text-embedding-3-small", "reranker", ""):
        with pytest.raises(openai.NotFoundError, match=f"name one of '{minilm.name}', '{clip.name}'") as caught:
            sdk.embeddings.create(model=name, input="a")
        assert caught.value.code == "model_not_found"


def test_names(tmp_path: Path, store_home: Path, serving: Callable[..., RunningServer]) -> None:
    """A model is known by its name, without its organisation, and as it was named when the server was started."""
    checkpoints.stored(store_home, "acme/Tiny-E5", checkpoints.sentence_transformer(tmp_path / "model"))
    url = serving(ServerSettings(text="acme/Tiny-E5@main")).url
    for name in ("acme/Tiny-E5", "Tiny-E5", "tiny-e5", "acme/Tiny-E5@main", None):
        reply = httpx.post(f"{url}/v1/embeddings", json={"input": "a", "model": name}, trust_env=False)
        assert reply.json()["model"] == "acme/Tiny-E5"
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none") as sdk:
        assert sdk.models.retrieve("Tiny-E5").id == "acme/Tiny-E5"
        assert sdk.models.retrieve("Tiny-E5").owned_by == "acme"


def test_clip_texts(client: httpx.Client, clip: Path) -> None:
    """A second model for texts is asked by its name."""
    reply = client.post("/v1/embeddings", json={"input": "the harbour", "model": clip.name}).json()
    assert (reply["model"], len(reply["data"][0]["embedding"])) == (clip.name, 16)


def test_prompts(tmp_path: Path, serving: Callable[..., RunningServer]) -> None:
    """A model with prompts embeds documents unless the request says that it holds queries."""
    folder = checkpoints.sentence_transformer(tmp_path / "e5", prompts={"query": "a query ", "document": "a passage "})
    local, url = HuggingFaceEmbeddings(model_name=str(folder)), serving(ServerSettings(text=str(folder))).url

    def vector(**more: str) -> list[float]:
        reply = httpx.post(f"{url}/v1/embeddings", json={"input": "the harbour", **more}, trust_env=False)
        return list(reply.json()["data"][0]["embedding"])

    document, query = local.embed_documents(["the harbour"])[0], local.embed_query("the harbour")
    assert not np.allclose(document, query, atol=1e-3)
    for kind, expected in (("document", document), ("passage", document), ("query", query)):
        np.testing.assert_allclose(vector(input_type=kind), expected, atol=1e-6)
    np.testing.assert_allclose(vector(), document, atol=1e-6)


def test_models(sdk: openai.OpenAI, local: HuggingFaceEmbeddings, minilm: Path, clip: Path, reranker: Path) -> None:
    """The list names every model once, says what it is for, and what identifies its vectors."""
    found = {model.id: model.model_dump() for model in sdk.models.list()}
    assert {name: model["roles"] for name, model in found.items()} == {
        minilm.name: ["text"],
        clip.name: ["clip_text", "image"],
        reranker.name: ["rerank"],
    }
    text = found[minilm.name]
    assert (text["dimension"], text["max_tokens"], text["owned_by"]) == (384, 256, "local")
    assert text["fingerprint"] == local.fingerprint
    assert "dimension" not in found[reranker.name]
    assert sdk.models.retrieve(minilm.name).model_dump() == text
    with pytest.raises(openai.NotFoundError, match="'gpt-4' is not served"):
        sdk.models.retrieve("gpt-4")


def test_models_of_infinity(client: httpx.Client) -> None:
    """Clients of infinity find the same list without `/v1`."""
    assert client.get("/models").json() == client.get("/v1/models").json()


def test_no_model_for_texts(reranker: Path, serving: Callable[..., RunningServer]) -> None:
    """A server without a model for texts says so."""
    url = serving(ServerSettings(rerank=str(reranker))).url
    reply = httpx.post(f"{url}/v1/embeddings", json={"input": "a"}, trust_env=False)
    assert is_refused(reply, 404, "no model for texts is served")
    assert "--text" in reply.text


def test_retry_after(tmp_path: Path, serving: Callable[..., RunningServer], monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's client waits as long as an overloaded server asks it to, and then gets its vectors."""
    folder = checkpoints.sentence_transformer(tmp_path / "tiny")
    running = serving(ServerSettings(text=str(folder), limits=Limits(queue_tokens=1)))
    inference = running.service.models.texts
    assert inference is not None
    refused, encode = threading.Event(), inference.loaded.encoder.encode
    statuses: list[int] = []

    def held(*args: Any, **kwargs: Any) -> Any:
        assert refused.wait(10)
        return encode(*args, **kwargs)

    def seen(reply: Any) -> None:
        statuses.append(reply.status_code)
        if reply.status_code == 429:
            refused.set()

    monkeypatch.setattr(inference.loaded.encoder, "encode", held)
    with (
        openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=4) as sdk,
        ThreadPoolExecutor(3) as threads,
    ):
        sdk._client.event_hooks["response"].append(seen)
        started = time.monotonic()
        # One is computed, one waits, and the third is refused.
        asked = [threads.submit(sdk.embeddings.create, model="tiny", input=text) for text in ("a", "b", "c")]
        assert all(request.result().data for request in asked)
    assert time.monotonic() - started >= 1
    assert statuses.count(200) == 3
    assert 429 in statuses
