"""`/rerank` over real HTTP, in the forms of Weaviate's container, Cohere's, and text-embeddings-inference."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from support import checkpoints

from langchain_localhf import HuggingFaceCrossEncoder
from langchain_localhf.errors import UnsupportedModelError
from langchain_localhf.server.settings import Limits, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.servers import RunningServer

pytestmark = pytest.mark.loopback

QUERY = "the river is red"
TEXTS = ["the bridge is in the city", "tax filings are due", "the river and the harbour", "", "winter\nsummer 東京 🚢"]


@pytest.fixture(scope="module")
def scores(reranker: Path) -> list[float]:
    """The scores of the same model without a server."""
    return HuggingFaceCrossEncoder(model_name=str(reranker)).score([(QUERY, text) for text in TEXTS])


def rerank(client: httpx.Client, path: str = "/rerank", **body: Any) -> Any:
    """The reply to a request that succeeds."""
    reply = client.post(path, json={"query": QUERY, **body})
    assert reply.status_code == 200, reply.text
    return reply.json()


def close_to(ours: list[float], theirs: list[float]) -> bool:
    """Whether no score differs by more than 1e-6."""
    return len(ours) == len(theirs) and bool(np.abs(np.array(ours) - theirs).max() < 1e-6)


def best_first(scores: list[float]) -> list[int]:
    """The places of the scores, the highest first."""
    return [int(place) for place in np.argsort(-np.array(scores), kind="stable")]


class TestWeaviate:
    """What reranker-transformers answers."""

    @pytest.mark.parametrize("more", [{"property": ""}, {"property": "x"}, {"property": None}, {}])
    def test_documents(self, client: httpx.Client, scores: list[float], more: dict[str, Any]) -> None:
        """One score a document, in their order, since Weaviate reads them by their places."""
        body = rerank(client, documents=TEXTS, **more)
        assert (body["query"], body["property"], body["score"]) == (QUERY, None, None)
        assert [one["document"] for one in body["scores"]] == TEXTS
        assert close_to([one["score"] for one in body["scores"]], scores)
        assert scores != sorted(scores, reverse=True)

    @pytest.mark.parametrize("more", [{}, {"documents": None}])
    def test_a_single_text(self, client: httpx.Client, scores: list[float], more: dict[str, Any]) -> None:
        """It goes by the name of `property`."""
        body = rerank(client, property=TEXTS[0], **more)
        assert (body["query"], body["property"], body["scores"]) == (QUERY, TEXTS[0], None)
        assert close_to([body["score"]], scores[:1])

    def test_many_documents(self, client: httpx.Client, reranker: Path) -> None:
        """More than the 32 that Weaviate sends at once are scored, too; one that is there twice has one score."""
        texts = [f"{text} {number}" for number in range(40) for text in TEXTS] + TEXTS[:1] * 2
        found = [one["score"] for one in rerank(client, documents=texts)["scores"]]
        assert close_to(
            found, HuggingFaceCrossEncoder(model_name=str(reranker)).score([(QUERY, text) for text in texts])
        )
        assert found[-1] == found[-2]


class TestCohere:
    """What Cohere, Jina and infinity answer."""

    @pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
    def test_results(self, client: httpx.Client, scores: list[float], path: str) -> None:
        """The best first, with the place in the request."""
        body = rerank(client, path, documents=TEXTS, model="any")
        assert [one["index"] for one in body["results"]] == best_first(scores)
        assert close_to([one["relevance_score"] for one in body["results"]], sorted(scores, reverse=True))
        assert all(one.keys() == {"index", "relevance_score"} for one in body["results"])

    def test_top_n(self, client: httpx.Client, scores: list[float]) -> None:
        """The first of them only; there may be fewer."""
        results = rerank(client, documents=TEXTS, top_n=2)["results"]
        assert [one["index"] for one in results] == best_first(scores)[:2]
        assert len(rerank(client, documents=TEXTS, top_n=100)["results"]) == len(TEXTS)

    def test_documents_come_back(self, client: httpx.Client) -> None:
        """If the client wants that; it may send them as objects."""
        documents = [TEXTS[0], {"text": TEXTS[1], "url": "a"}]
        results = rerank(client, documents=documents, return_documents=True)["results"]
        assert all(one["document"] == {"text": TEXTS[one["index"]]} for one in results)


class TestTEI:
    """What text-embeddings-inference answers."""

    def test_ranks(self, client: httpx.Client, scores: list[float]) -> None:
        """A list, the best first."""
        ranks = rerank(client, texts=TEXTS, raw_scores=False, truncate=True)
        assert [one["index"] for one in ranks] == best_first(scores)
        assert close_to([one["score"] for one in ranks], sorted(scores, reverse=True))
        assert all(one.keys() == {"index", "score"} for one in ranks)

    def test_texts_come_back(self, client: httpx.Client) -> None:
        """If the client wants that."""
        assert all(one["text"] == TEXTS[one["index"]] for one in rerank(client, texts=TEXTS, return_text=True))

    def test_raw_scores(
        self, serving: Callable[..., RunningServer], client: httpx.Client, tmp_path: Path, scores: list[float]
    ) -> None:
        """They are refused where the model's own activation function changes them, and given where it does not."""
        reply = client.post("/rerank", json={"query": QUERY, "texts": TEXTS, "raw_scores": True})
        assert (reply.status_code, reply.json()["error_type"]) == (422, "Validation")
        folder = checkpoints.classifier(tmp_path / "raw")
        identity = {"activation_fn": "torch.nn.modules.linear.Identity"}
        checkpoints.edit_json(folder / "config.json", sentence_transformers=identity)
        expected = HuggingFaceCrossEncoder(model_name=str(folder)).score([(QUERY, text) for text in TEXTS])
        with httpx.Client(base_url=serving(ServerSettings(rerank=str(folder))).url, trust_env=False) as other:
            ranks = rerank(other, texts=TEXTS, raw_scores=True)
        assert close_to([one["score"] for one in ranks], sorted(expected, reverse=True))
        assert close_to([1 / (1 + math.exp(-score)) for score in expected], scores)


class TestLongPairs:
    """What happens to a pair that is longer than what the model reads."""

    @pytest.fixture
    def fitting(self, client: httpx.Client) -> str:
        """As many words as the model reads behind the query and beside its own three tokens."""
        limit = client.get("/meta").json()["localhf"]["models"]["rerank"]["max_tokens"]
        return " ".join(["river"] * (limit - 3 - len(QUERY.split())))

    @pytest.mark.parametrize("name", ["texts", "documents"])
    def test_cut(self, client: httpx.Client, fitting: str, name: str) -> None:
        """A header names them, but not one that just fits."""
        texts = [f"{fitting} river", fitting, "river", f"{fitting} river tax"]
        reply = client.post("/rerank", json={"query": QUERY, name: texts})
        assert (reply.status_code, reply.headers["x-truncated-inputs"]) == (200, "0,3")

    def test_refused(self, client: httpx.Client, fitting: str) -> None:
        """Where the client wants that."""
        assert len(rerank(client, texts=[fitting], truncate=False)) == 1
        reply = client.post("/rerank", json={"query": QUERY, "texts": ["a", f"{fitting} river"], "truncate": False})
        assert (reply.status_code, reply.json()["error_type"]) == (422, "Validation")
        assert "texts[1]" in reply.json()["error"]


class TestErrors:
    """What goes wrong."""

    @pytest.mark.parametrize(
        ("body", "status", "kind"),
        [
            ({}, 422, "Validation"),
            ({"query": "a"}, 422, "Validation"),
            ({"documents": ["a"]}, 422, "Validation"),
            ({"query": "a", "documents": []}, 400, "Empty"),
            ({"query": "a", "texts": []}, 400, "Empty"),
            ({"query": 1, "texts": ["a"]}, 422, "Validation"),
            ({"query": "a", "texts": "a"}, 422, "Validation"),
            ({"query": "a", "documents": [{"title": "a"}]}, 422, "Validation"),
            ({"query": "a", "documents": [None]}, 422, "Validation"),
            ({"query": "a", "documents": ["a"], "top_n": 0}, 422, "Validation"),
            ({"query": "a", "texts": ["a"], "truncation_direction": "left"}, 422, "Validation"),
        ],
    )
    def test_what_cannot_be(self, client: httpx.Client, body: dict[str, Any], status: int, kind: str) -> None:
        """`error` is a text, as Weaviate and text-embeddings-inference have it."""
        reply = client.post("/rerank", content=json.dumps(body))
        assert (reply.status_code, reply.json()["error_type"], type(reply.json()["error"])) == (status, kind, str)

    def test_under_a_version(self, client: httpx.Client) -> None:
        """There, errors have OpenAI's form."""
        reply = client.post("/v1/rerank", json={"query": "a"})
        assert (reply.status_code, reply.json()["error"]["type"]) == (400, "invalid_request_error")

    def test_too_many(self, serving: Callable[..., RunningServer], reranker: Path) -> None:
        """They are refused before any work."""
        settings = ServerSettings(rerank=str(reranker), limits=Limits(inputs=3))
        with httpx.Client(base_url=serving(settings).url, trust_env=False) as client:
            for name in ("texts", "documents"):
                assert client.post("/rerank", json={"query": "a", name: ["a"] * 3}).status_code == 200
                assert client.post("/rerank", json={"query": "a", name: ["a"] * 4}).status_code == 413

    def test_no_cross_encoder(self, serving: Callable[..., RunningServer], clip: Path) -> None:
        """The error names the flag."""
        url = serving(ServerSettings(clip=str(clip))).url
        reply = httpx.post(f"{url}/rerank", json={"query": "a", "documents": ["a"]}, trust_env=False)
        assert (reply.status_code, "--rerank" in reply.json()["error"]) == (404, True)

    def test_a_classifier(self, serving: Callable[..., RunningServer], tmp_path: Path) -> None:
        """A model with three labels does not rank; that is said when the server starts."""
        folder = checkpoints.cross_encoder(tmp_path / "classifier", labels=3)
        with pytest.raises(UnsupportedModelError, match=r"gives each pair 3 scores.*cannot be ranked"):
            serving(ServerSettings(rerank=str(folder)))

    def test_two_labels(self, serving: Callable[..., RunningServer], tmp_path: Path) -> None:
        """Of a model with two, the second says how relevant a text is."""
        folder = str(checkpoints.cross_encoder(tmp_path / "two", labels=2))
        expected = HuggingFaceCrossEncoder(model_name=folder).score([(QUERY, text) for text in TEXTS])
        with httpx.Client(base_url=serving(ServerSettings(rerank=folder)).url, trust_env=False) as client:
            assert close_to([one["score"] for one in rerank(client, documents=TEXTS)["scores"]], expected)
