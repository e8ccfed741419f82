"""The protocol of text-embeddings-inference over real HTTP, and two real clients that speak it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from chromadb.utils.embedding_functions import HuggingFaceEmbeddingServer
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from support import dual_encoders
from support.checkpoints import edit_json

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.server.settings import Limits, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.servers import RunningServer

pytestmark = pytest.mark.loopback

TEXTS = ["a red ship", "", "Straße 東京 🚢", "word " * 1000, "a red ship"]


@pytest.fixture(scope="module")
def embeddings(minilm: Path) -> HuggingFaceEmbeddings:
    """The same model without a server."""
    return HuggingFaceEmbeddings(model_name=str(minilm))


def embed(client: httpx.Client, **body: Any) -> np.ndarray:
    """The vectors of a request that succeeds."""
    reply = client.post("/embed", json=body)
    assert reply.status_code == 200, reply.text
    return np.array(reply.json())


def error(client: httpx.Client, path: str = "/embed", **body: Any) -> tuple[int, str, str]:
    """The status, the type and the message of a request that fails."""
    reply = client.post(path, json=body)
    assert reply.json().keys() == {"error", "error_type"}
    return reply.status_code, reply.json()["error_type"], reply.json()["error"]


def difference(ours: Any, theirs: Any) -> float:
    """The largest difference of two numbers of the vectors."""
    assert np.shape(ours) == np.shape(theirs)
    return float(np.abs(np.asarray(ours) - np.asarray(theirs)).max())


class TestEmbed:
    """`POST /embed`."""

    def test_the_vectors_are_those_of_the_package(
        self, client: httpx.Client, embeddings: HuggingFaceEmbeddings
    ) -> None:
        """One a text, in their order."""
        vectors = embed(client, inputs=TEXTS)
        assert difference(vectors, embeddings.embed_documents(TEXTS)) < 1e-6
        assert (vectors[0] == vectors[4]).all()

    def test_one_text(self, client: httpx.Client) -> None:
        """It gives a list of one vector; so does the path of the server alone, which clients take for its task."""
        assert embed(client, inputs="a red ship").shape == (1, 384)
        assert client.post("/", json={"inputs": "a red ship"}).json() == embed(client, inputs="a red ship").tolist()

    @pytest.mark.parametrize(("name", "kind"), [("query", "query"), ("document", "document"), ("passage", "document")])
    def test_prompts(self, serving: Callable[..., RunningServer], prompted: Path, name: str, kind: str) -> None:
        """What the model puts before texts of a kind is put there."""
        embeddings = HuggingFaceEmbeddings(model_name=str(prompted))
        right = {"query": embeddings.embed_query("a ship"), "document": embeddings.embed_documents(["a ship"])[0]}
        assert difference(right["query"], right["document"]) > 0.01
        with httpx.Client(base_url=serving(ServerSettings(text=str(prompted))).url, trust_env=False) as client:
            [vector] = embed(client, inputs="a ship", prompt_name=name, normalize=False)
        assert difference(vector, right[kind]) < 1e-6

    def test_length(self, serving: Callable[..., RunningServer], prompted: Path) -> None:
        """Vectors have length 1, unless the client wants them as the model gives them."""
        [right] = HuggingFaceEmbeddings(model_name=str(prompted)).embed_documents(["a ship"])
        with httpx.Client(base_url=serving(ServerSettings(text=str(prompted))).url, trust_env=False) as client:
            [scaled], [whole] = embed(client, inputs="a ship"), embed(client, inputs="a ship", normalize=False)
        assert abs(np.linalg.norm(right) - 1) > 0.01
        assert difference(whole, right) < 1e-6
        assert difference(scaled, np.array(right) / np.linalg.norm(right)) < 1e-6

    def test_dimensions(self, client: httpx.Client) -> None:
        """The first numbers of a vector, scaled to length 1 or not."""
        [whole] = embed(client, inputs="a ship")
        [short], [cut] = (
            embed(client, inputs="a ship", dimensions=100, normalize=normalize) for normalize in (True, False)
        )
        assert difference(cut, whole[:100]) == 0
        assert difference(short, cut / np.linalg.norm(cut)) < 1e-6

    def test_headers(self, client: httpx.Client) -> None:
        """They say how much was read."""
        headers = client.post("/embed", json={"inputs": ["a red ship", "ship"]}).headers
        assert headers["x-compute-characters"] == "14"
        assert headers["x-compute-tokens"] == "8"  # two of each text are the model's own
        assert int(headers["x-total-time"]) >= 0
        assert "x-truncated-inputs" not in headers


class TestLongTexts:
    """What happens to a text that is longer than what the model reads: 256 tokens, two of which are its own."""

    @pytest.mark.parametrize("truncate", [{}, {"truncate": True}, {"truncate": None}])
    def test_cut(self, client: httpx.Client, truncate: dict[str, Any]) -> None:
        """Its end is cut off, and a header names it."""
        texts = ["word " * 254, "word " * 255, "ship", "word " * 5000]
        reply = client.post("/embed", json={"inputs": texts, **truncate})
        assert (reply.status_code, reply.headers["x-truncated-inputs"]) == (200, "1,3")
        assert reply.headers["x-compute-tokens"] == str(3 * 256 + 3)
        assert reply.json()[0] == pytest.approx(reply.json()[3], abs=1e-6)

    def test_refused(self, client: httpx.Client) -> None:
        """Where the client wants that; a text that just fits is no long one."""
        assert embed(client, inputs=["word " * 254], truncate=False).shape == (1, 384)
        status, kind, message = error(client, inputs=["ship", "word " * 255], truncate=False)
        assert (status, kind) == (422, "Validation")
        assert "inputs[1] has more than the 256 tokens" in message

    def test_the_prompt_counts(self, serving: Callable[..., RunningServer], prompted: Path) -> None:
        """A text that fits alone, but not behind its prompt, is cut."""
        with httpx.Client(base_url=serving(ServerSettings(text=str(prompted))).url, trust_env=False) as client:
            limit = client.get("/info").json()["max_input_length"]
            text = "ship " * (limit - 4)
            assert embed(client, inputs=text, truncate=False, prompt_name="document").shape == (1, 16)
            assert error(client, inputs=text, truncate=False, prompt_name="query")[0] == 422

    @pytest.mark.parametrize("direction", ["left", "Left"])
    def test_the_beginning_is_not_cut(self, client: httpx.Client, direction: str) -> None:
        """Who wants that is told so, if it would matter."""
        assert embed(client, inputs="ship", truncation_direction=direction).shape == (1, 384)
        status, _, message = error(client, inputs="word " * 500, truncation_direction=direction)
        assert (status, "at its end only" in message) == (422, True)

    def test_the_header_stays_short(self, client: httpx.Client) -> None:
        """Proxies refuse a reply with a long head."""
        named = client.post("/embed", json={"inputs": ["word " * 300] * 400}).headers["x-truncated-inputs"]
        assert named.startswith("0,1,2,")
        assert named.endswith(",99,...")


class TestErrors:
    """What goes wrong is said in the protocol's own form."""

    @pytest.mark.parametrize(
        ("body", "status", "kind"),
        [
            ({}, 422, "Validation"),
            ({"inputs": []}, 400, "Empty"),
            ({"inputs": None}, 422, "Validation"),
            ({"inputs": [1, 2]}, 422, "Validation"),
            ({"inputs": [[101, 102]]}, 422, "Validation"),
            ({"inputs": ["a", None]}, 422, "Validation"),
            ({"inputs": "a", "prompt_name": "search_query"}, 422, "Validation"),
            ({"inputs": "a", "dimensions": 0}, 422, "Validation"),
            ({"inputs": "a", "dimensions": 385}, 422, "Validation"),
            ({"inputs": "a", "truncation_direction": "up"}, 422, "Validation"),
            ({"inputs": "a", "normalize": "yes"}, 422, "Validation"),
            ({"inputs": ["a"] * 2049}, 413, "Validation"),
        ],
    )
    def test_what_cannot_be(self, client: httpx.Client, body: dict[str, Any], status: int, kind: str) -> None:
        """The status and the type are those that its clients know."""
        assert error(client, **body)[:2] == (status, kind)
        assert error(client, "/", **body)[:2] == (status, kind)

    def test_no_model_for_texts(self, serving: Callable[..., RunningServer], reranker: Path) -> None:
        """The error names the flag."""
        with httpx.Client(base_url=serving(ServerSettings(rerank=str(reranker))).url, trust_env=False) as client:
            assert error(client, inputs="a")[0] == 404
            assert "--text" in error(client, inputs="a")[2]

    def test_overload(self, serving: Callable[..., RunningServer], minilm: Path) -> None:
        """More than may wait is refused at once, with the time to come back."""
        limits = Limits(batch_tokens=256, queue_tokens=512)
        settings = ServerSettings(text=str(minilm), limits=limits)
        with httpx.Client(base_url=serving(settings).url, trust_env=False, timeout=60) as client:
            replies = _at_once(client, [[f"{row} {column} {'word ' * 200}" for column in range(8)] for row in range(8)])
            assert {reply.status_code for reply in replies} == {200, 429}
            refused = next(reply for reply in replies if reply.status_code == 429)
            assert refused.json()["error_type"] == "Overloaded"
            assert int(refused.headers["Retry-After"]) >= 1
            assert embed(client, inputs="a").shape == (1, 384)


class TestInfo:
    """`GET /info`."""

    def test_the_model_for_texts(self, client: httpx.Client, running_server: RunningServer) -> None:
        """What text-embeddings-inference says of its model; null for what this server does not know or have."""
        info = client.get("/info").json()
        limits = running_server.service.settings.limits
        assert (
            info["model_id"]
            == info["served_model_name"]
            == client.get("/meta").json()["localhf"]["models"]["text"]["name"]
        )
        assert info["model_type"] == {"embedding": {"pooling": "mean"}}
        assert (info["model_dtype"], info["model_sha"], info["max_input_length"]) == ("float32", None, 256)
        assert (info["max_client_batch_size"], info["max_batch_tokens"]) == (limits.inputs, limits.batch_tokens)
        assert info["auto_truncate"] is True
        assert info["version"] == version("langchain-localhf")

    def test_a_reranker_alone(self, serving: Callable[..., RunningServer], reranker: Path) -> None:
        """It is the model then."""
        info = httpx.get(f"{serving(ServerSettings(rerank=str(reranker))).url}/info", trust_env=False).json()
        assert info["model_type"]["reranker"]["id2label"] == {"0": "LABEL_0"}


class TestClients:
    """Clients that others wrote."""

    @pytest.fixture
    def hub(self, server: str, monkeypatch: pytest.MonkeyPatch) -> InferenceClient:
        """The hub's own client, with the server's address; unless told not to, it first asks the hub who it is."""
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
        return InferenceClient(model=server)

    def test_inference_client(self, hub: InferenceClient, embeddings: HuggingFaceEmbeddings) -> None:
        """One text or several, with all its settings."""
        assert difference(hub.feature_extraction("a red ship")[0], embeddings.embed_query("a red ship")) < 1e-6
        assert difference(hub.feature_extraction(TEXTS), embeddings.embed_documents(TEXTS)) < 1e-6
        settings: dict[str, Any] = {"normalize": True, "prompt_name": "query", "truncate": True}
        assert hub.feature_extraction("a", truncation_direction="right", dimensions=64, **settings).shape == (1, 64)

    def test_inference_client_is_told_why(self, hub: InferenceClient) -> None:
        """The reason is in its exception."""
        with pytest.raises(HfHubHTTPError, match="more than the 256 tokens"):
            hub.feature_extraction("word " * 300, truncate=False)

    def test_chroma(self, server: str, embeddings: HuggingFaceEmbeddings) -> None:
        """Chroma's embedding function for such servers; more texts at once than text-embeddings-inference takes."""
        function = HuggingFaceEmbeddingServer(url=f"{server}/embed")
        try:
            texts = [f"ship {number}" for number in range(100)]
            vectors = function(texts)
        finally:
            function._session.close()
        assert difference(vectors, embeddings.embed_documents(texts)) < 1e-6


@pytest.fixture
def prompted(tmp_path: Path) -> Path:
    """A model with a prompt for queries, whose vectors have any length."""
    folder = dual_encoders.text_tower(tmp_path / "prompted")
    edit_json(folder / "config_sentence_transformers.json", prompts={"query": "question ship sails at dawn "})
    return folder


def _at_once(client: httpx.Client, requests: list[list[str]]) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(lambda inputs: client.post("/embed", json={"inputs": inputs}), requests))
