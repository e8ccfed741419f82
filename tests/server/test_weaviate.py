"""The protocols of Weaviate's containers over real HTTP: what their own smoke tests hold, and what Weaviate sends."""

from __future__ import annotations

import base64
import http.client
import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from support import checkpoints, dual_encoders
from support.dual_encoders import picture

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.embeddings.clip import CLIPEmbeddings
from langchain_localhf.server.settings import Limits, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from support.servers import RunningServer

pytestmark = pytest.mark.loopback

SENTENCES = [
    f"The {word} sails at dawn, and costs {number} crowns." for number in range(10) for word in ("ship", "cat")
]


def in_base64(image: Any, kind: str = "PNG") -> str:
    """A picture as Weaviate sends it."""
    file = io.BytesIO()
    image.save(file, kind)
    return base64.b64encode(file.getvalue()).decode()


def post(client: httpx.Client, path: str, **body: Any) -> Any:
    """The reply to a request that succeeds."""
    reply = client.post(path, json=body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def vector(client: httpx.Client, text: str, **config: Any) -> list[float]:
    """The vector of a text, as Weaviate asks for it."""
    body = {
        "text": text,
        "dims": 0,
        "vector": None,
        "error": "",
        "config": {"pooling_strategy": "masked_mean", **config},
    }
    return list(post(client, "/vectors", **body)["vector"])


def in_go(url: str, path: str, body: object, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Posts as Weaviate's Go client does: JSON, and no word of that in the head."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=30)
    try:
        connection.putrequest("POST", path, skip_accept_encoding=True)
        data = json.dumps(body).encode()
        for name, value in {
            "Content-Length": str(len(data)),
            "User-Agent": "Go-http-client/1.1",
            **(headers or {}),
        }.items():
            connection.putheader(name, value)
        connection.endheaders(data)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def lengths(vectors: Sequence[Sequence[float]]) -> np.ndarray:
    """The length of each vector."""
    return np.linalg.norm(np.asarray(vectors), axis=1)


def scaled(vectors: Sequence[Sequence[float]]) -> np.ndarray:
    """The vectors at length 1."""
    return np.asarray(vectors) / lengths(vectors)[:, np.newaxis]


def close_to(ours: Any, theirs: Any) -> bool:
    """Whether no number differs by more than 1e-6."""
    return np.asarray(ours).shape == np.asarray(theirs).shape and bool(
        np.abs(np.asarray(ours) - np.asarray(theirs)).max() < 1e-6
    )


class TestClip:
    """multi2vec-clip's `/vectorize`."""

    def test_a_text_and_an_image(self, client: httpx.Client) -> None:
        """One vector each, of one length."""
        body = post(client, "/vectorize", texts=["a red ship"], images=[in_base64(picture(1, (25, 21)), "JPEG")])
        assert [len(body["textVectors"]), len(body["imageVectors"])] == [1, 1]
        assert len(body["textVectors"][0]) == len(body["imageVectors"][0]) == dual_encoders.DIMENSION

    def test_equal_images(self, client: httpx.Client) -> None:
        """The same image twice in a request has the same vector, to the last bit."""
        image = in_base64(picture(2))
        body = post(client, "/vectorize", texts=["one", "two", "three"], images=[image, image])
        assert [len(body["textVectors"]), len(body["imageVectors"])] == [3, 2]
        assert body["imageVectors"][0] == body["imageVectors"][1]

    @pytest.mark.parametrize("absent", [{}, {"images": []}, {"images": None}])
    def test_texts_only(self, client: httpx.Client, absent: dict[str, Any]) -> None:
        """Both keys are there."""
        body = post(client, "/vectorize", texts=["one", "two", "three"], **absent)
        assert (len(body["textVectors"]), body["imageVectors"]) == (3, [])

    @pytest.mark.parametrize("absent", [{}, {"texts": []}, {"texts": None}])
    def test_images_only(self, client: httpx.Client, absent: dict[str, Any]) -> None:
        """Both keys are there, also for a picture with a palette."""
        palette = picture(3, (360, 240)).convert("P")
        body = post(client, "/vectorize", images=[in_base64(palette)], **absent)
        assert (body["textVectors"], len(body["imageVectors"])) == ([], 1)

    def test_nothing(self, client: httpx.Client) -> None:
        """There is nothing then."""
        assert post(client, "/vectorize") == {"textVectors": [], "imageVectors": []}

    @pytest.mark.parametrize(
        ("build", "is_scaled"),
        [(dual_encoders.clip, True), (dual_encoders.siglip, False), (dual_encoders.st_clip, False)],
        ids=["plain CLIP", "SigLIP", "sentence-transformers"],
    )
    def test_scaled_as_the_container_does(
        self, serving: Callable[..., RunningServer], tmp_path: Path, build: Callable[[Path], Path], *, is_scaled: bool
    ) -> None:
        """Weaviate adds vectors up as they come: those of a plain CLIP have length 1, and no others."""
        folder = str(build(tmp_path / "model"))
        texts, images = ["a red ship", "tax " * 200], [picture(seed) for seed in range(3)]
        expected = CLIPEmbeddings(model_name=folder)
        of_texts, of_images = expected.embed_documents(texts), expected.embed_image(images)
        assert abs(lengths([*of_texts, *of_images]) - 1).min() > 0.01
        with httpx.Client(base_url=serving(ServerSettings(clip=folder)).url, trust_env=False) as client:
            body = post(client, "/vectorize", texts=texts, images=list(map(in_base64, images)))
            alone = [vector(client, text) for text in texts]
        assert close_to(body["textVectors"], scaled(of_texts) if is_scaled else of_texts)
        assert close_to(body["imageVectors"], scaled(of_images) if is_scaled else of_images)
        assert alone == body["textVectors"]

    def test_another_model_for_texts(self, serving: Callable[..., RunningServer], clip: Path, tmp_path: Path) -> None:
        """Each tower has its own scale."""
        tower = str(dual_encoders.text_tower(tmp_path / "tower"))
        expected = HuggingFaceEmbeddings(model_name=tower).embed_documents(["a red ship"])
        settings = ServerSettings(clip=str(clip), clip_text=tower)
        with httpx.Client(base_url=serving(settings).url, trust_env=False) as client:
            body = post(client, "/vectorize", texts=["a red ship"], images=[in_base64(picture())])
        assert close_to(body["textVectors"], expected)
        assert lengths(body["imageVectors"])[0] == pytest.approx(1, abs=1e-6)

    def test_long_texts_are_cut(self, client: httpx.Client) -> None:
        """That is no error; a header names them."""
        texts = ["tax " * 500, "short", "tax " * 400, "tax " * 75]
        reply = client.post("/vectorize", json={"texts": texts})
        assert (reply.status_code, reply.headers["x-truncated-inputs"]) == (200, "0,2")
        assert reply.json()["textVectors"][0] == reply.json()["textVectors"][2]

    def test_forms_of_base64(self, client: httpx.Client) -> None:
        """A data: URI, line breaks and missing padding are read as the bare text is."""
        plain = in_base64(picture(4))
        forms = [plain, f"data:image/png;base64,{plain}", "\n".join([plain[:50], plain[50:]]), plain.rstrip("=")]
        vectors = post(client, "/vectorize", images=forms)["imageVectors"]
        assert vectors == [vectors[0]] * 4

    @pytest.mark.parametrize(
        ("image", "message"),
        [
            ("", "is empty"),
            ("a", "base64"),
            ("%%%", "is empty"),
            ("grün", "base64"),
            (base64.b64encode(b"no image at all, but a text").decode(), "is no image"),
            ("http://127.0.0.1:9/a.png", "is an address, and nothing is fetched"),
            ("file:///etc/hostname", "is an address, and nothing is fetched"),
            ("/etc/hostname", "images[1]"),
        ],
    )
    def test_no_image(self, client: httpx.Client, image: str, message: str) -> None:
        """The error names its index; nothing is opened or fetched."""
        reply = client.post("/vectorize", json={"images": [in_base64(picture()), image]})
        assert reply.status_code == 422
        assert "images[1]" in reply.json()["error"]
        assert message in reply.json()["error"]

    def test_a_bad_image_fails_alone(self, client: httpx.Client) -> None:
        """Requests that run at the same time are answered."""
        good, bad = {"images": [in_base64(picture())]}, {"images": ["AAAA"]}
        with ThreadPoolExecutor(8) as threads:
            replies = list(threads.map(lambda body: client.post("/vectorize", json=body), [good, bad] * 12))
        assert [reply.status_code for reply in replies] == [200, 422] * 12

    def test_limits(self, serving: Callable[..., RunningServer], clip: Path) -> None:
        """Too many texts or images, and too large ones, are refused before any work."""
        limits = Limits(inputs=2, images=1, image_pixels=100)
        with httpx.Client(
            base_url=serving(ServerSettings(clip=str(clip), limits=limits)).url, trust_env=False
        ) as client:
            small, large = in_base64(picture(0, (10, 10))), in_base64(picture(0, (10, 11)))
            statuses = [
                client.post("/vectorize", json=body).status_code
                for body in (
                    {"texts": ["a", "b"], "images": [small]},
                    {"texts": ["a", "b", "c"]},
                    {"images": [small, small]},
                    {"images": [large]},
                )
            ]
        assert statuses == [200, 413, 413, 422]


class TestText:
    """text2vec-transformers' `/vectors`."""

    def test_the_documented_request(self, client: httpx.Client) -> None:
        """It works as it stands in Weaviate's documentation."""
        reply = client.post("/vectors", content=b'{"text": "foo bar"}', headers={"Content-Type": "application/json"})
        body = reply.json()
        assert reply.status_code == 200
        assert body.keys() == {"text", "vector", "dim", "dims"}
        assert (body["text"], len(body["vector"]), body["dim"], body["dims"]) == ("foo bar", 384, 384, 384)

    @pytest.mark.parametrize("path", ["/vectors", "/vectors/"])
    def test_both_paths(self, client: httpx.Client, path: str) -> None:
        """Neither leads to the other: Weaviate follows no redirect."""
        reply = client.post(path, json={"text": "foo bar"}, follow_redirects=False)
        assert (reply.status_code, reply.json()["dim"]) == (200, 384)

    @pytest.mark.parametrize("config", [None, {}, {"task_type": ""}, {"pooling_strategy": "cls", "unknown": 1}])
    def test_any_configuration(self, client: httpx.Client, minilm: Path, config: dict[str, Any] | None) -> None:
        """Without one, a text is a passage; the model's own pooling stands."""
        [expected] = HuggingFaceEmbeddings(model_name=str(minilm)).embed_documents(["foo bar"])
        assert close_to(post(client, "/vectors", text="foo bar", config=config)["vector"], expected)

    def test_the_vectors_are_those_of_the_package(self, client: httpx.Client, minilm: Path) -> None:
        """So one may embed queries, and Weaviate documents."""
        embeddings = HuggingFaceEmbeddings(model_name=str(minilm))
        texts = ["", "foo bar", "Straße 東京 🚢", "word " * 1000, "https://127.0.0.1:9/a.png", "\x00"]
        passages = [vector(client, text, task_type="passage") for text in texts]
        queries = [vector(client, text, task_type="query") for text in texts]
        assert close_to(passages, embeddings.embed_documents(texts))
        assert close_to(queries, [embeddings.embed_query(text) for text in texts])

    def test_a_plain_transformer(self, serving: Callable[..., RunningServer], tmp_path: Path) -> None:
        """With its pooling stated, it gives the mean of its tokens as it is, like the container."""
        folder = str(checkpoints.plain(tmp_path / "plain"))
        embeddings = HuggingFaceEmbeddings(model_name=folder, pooling="mean")
        server = serving(ServerSettings(text=folder, pooling="mean"))
        with httpx.Client(base_url=server.url, trust_env=False) as client:
            given = vector(client, "foo bar", task_type="passage")
        assert close_to(given, embeddings.embed_documents(["foo bar"])[0])
        assert abs(np.linalg.norm(given) - 1) > 0.01

    def test_tasks_have_their_prompts(self, serving: Callable[..., RunningServer], tmp_path: Path) -> None:
        """What a model puts before queries and passages is put there; and vectors have length 1, whatever the model."""
        prompts = {"query": "question: ", "document": "passage: "}
        folder = str(_not_scaled(tmp_path / "prompted", prompts))
        embeddings = HuggingFaceEmbeddings(model_name=folder)
        expected = {"query": embeddings.embed_query("a ship"), "passage": embeddings.embed_documents(["a ship"])[0]}
        assert not close_to(expected["query"], expected["passage"])
        with httpx.Client(base_url=serving(ServerSettings(text=folder)).url, trust_env=False) as client:
            for task, right in expected.items():
                assert close_to(vector(client, "a ship", task_type=task), scaled([right])[0])

    def test_dimensions(self, client: httpx.Client) -> None:
        """The first numbers of a vector, scaled to length 1."""
        whole, short = vector(client, "foo bar"), vector(client, "foo bar", dimensions=128)
        assert len(short) == 128
        assert close_to(short, scaled([whole[:128]])[0])
        assert vector(client, "foo bar", dimensions=384) == whole

    @pytest.mark.parametrize("dimensions", [0, -1, 385])
    def test_dimensions_that_there_are_not(self, client: httpx.Client, dimensions: int) -> None:
        """The error says how many there are."""
        reply = client.post("/vectors", json={"text": "foo bar", "config": {"dimensions": dimensions}})
        assert reply.status_code == 422
        assert "384" in reply.json()["error"]

    def test_a_long_text_is_cut(self, client: httpx.Client) -> None:
        """A header says so, but not of one that just fits."""
        assert client.post("/vectors", json={"text": "word " * 1000}).headers["x-truncated-inputs"] == "0"
        assert "x-truncated-inputs" not in client.post("/vectors", json={"text": "word " * 254}).headers
        assert "x-truncated-inputs" in client.post("/vectors", json={"text": "word " * 255}).headers

    def test_many_threads(self, client: httpx.Client) -> None:
        """600 requests of 10 threads give exactly the vectors that each text has alone."""
        first = {text: vector(client, text, task_type="passage") for text in SENTENCES}
        with ThreadPoolExecutor(10) as threads:
            texts = [SENTENCES[number % len(SENTENCES)] for number in range(600)]
            again = list(threads.map(lambda text: vector(client, text, task_type="passage"), texts))
        assert all(one == first[text] for one, text in zip(again, texts, strict=True))


class TestConcurrency:
    """Many clients at once."""

    def test_equal_inputs(self, client: httpx.Client) -> None:
        """Of 64 clients that ask for one object among others, each gets the same vectors, to the last bit."""

        def ask(number: int) -> tuple[Any, Any]:
            images = [in_base64(picture(100 + number)), in_base64(picture(99))]
            body = post(client, "/vectorize", texts=[f"tax {number}", "a blue ship"], images=images)
            return body["textVectors"][1], body["imageVectors"][1]

        with ThreadPoolExecutor(64) as threads:
            replies = list(threads.map(ask, range(128)))
        assert replies == [replies[0]] * 128


class TestRequests:
    """How Weaviate asks, and what it is told."""

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/vectors", {"text": "foo bar", "dims": 0, "vector": None, "error": "", "config": {"task_type": "query"}}),
            ("/vectors/", {"text": "foo bar"}),
            ("/vectorize", {"texts": ["foo bar"]}),
            ("/rerank", {"query": "a", "documents": ["b"], "property": ""}),
        ],
    )
    def test_no_content_type(self, server: str, path: str, body: object) -> None:
        """Weaviate sends none; a web page of another site, which can do that, too, is refused."""
        assert in_go(server, path, body)[0] == 200
        status, reply = in_go(server, path, body, {"Origin": "http://example.com"})
        assert (status, type(reply["error"])) == (415, str)

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("/vectors", b"", 422),
            ("/vectors", b"{", 422),
            ("/vectors", b"[]", 422),
            ("/vectors", b'{"text": null}', 422),
            ("/vectors", b'{"text": 7}', 422),
            ("/vectors", b'{"text": "\\ud800"}', 422),
            ("/vectors", b'{"text": "a", "config": {"task_type": "other"}}', 422),
            ("/vectors", b'{"text": "a", "config": {"dimensions": "3"}}', 422),
            ("/vectorize", b'{"texts": "a"}', 422),
            ("/vectorize", b'{"texts": [1]}', 422),
            ("/vectorize", b'{"images": [{"url": "a"}]}', 422),
            ("/vectors/no", b"{}", 404),
        ],
    )
    def test_errors(self, client: httpx.Client, path: str, body: bytes, status: int) -> None:
        """`error` is a text, as Weaviate reads it."""
        reply = client.post(path, content=body)
        assert (reply.status_code, type(reply.json()["error"])) == (status, str)

    def test_what_is_not_served(self, serving: Callable[..., RunningServer], reranker: Path) -> None:
        """The error names the flag that would serve it."""
        url = serving(ServerSettings(rerank=str(reranker))).url
        for path, body, flag in (
            ("/vectors", {"text": "a"}, "--text"),
            ("/vectorize", {"texts": ["a"]}, "--clip"),
            ("/vectorize", {}, "--clip"),
        ):
            status, reply = in_go(url, path, body)
            assert status == 404
            assert flag in reply["error"]
        meta = httpx.get(f"{url}/meta", trust_env=False).json()
        assert meta["model"]["architectures"] == ["BertForSequenceClassification"]

    def test_tokens(self, serving: Callable[..., RunningServer], minilm: Path) -> None:
        """Health is open; all else needs one of the tokens."""
        settings = ServerSettings(text=str(minilm), tokens=("token1", "token2"))
        with httpx.Client(base_url=serving(settings).url, trust_env=False) as client:
            assert client.get("/.well-known/live").status_code == 204
            assert client.get("/.well-known/ready").status_code == 204
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "token1"}):
                for reply in (
                    client.get("/meta", headers=headers),
                    client.post("/vectors", json={"text": "a"}, headers=headers),
                    client.post("/vectors/", json={"text": "a"}, headers=headers),
                    client.post("/", json={"inputs": "a"}, headers=headers),
                ):
                    assert (reply.status_code, reply.json()["error"]) == (401, "Unauthorized")
            for token in settings.tokens:
                headers = {"Authorization": f"Bearer {token}"}
                assert isinstance(client.get("/meta", headers=headers).json(), dict)
                for path in ("/vectors", "/vectors/"):
                    assert client.post(path, json={"text": "a"}, headers=headers).json()["dim"] == 384


class TestMeta:
    """What the server says of its models."""

    def test_what_it_says(self, client: httpx.Client, minilm: Path, clip: Path) -> None:
        """The models' configurations, as the containers do, and what identifies the vectors."""
        meta = client.get("/meta").json()
        assert meta["model"] == json.loads((minilm / "config.json").read_text(encoding="utf-8"))
        assert (
            meta["clip_model"] == meta["text_model"] == json.loads((clip / "config.json").read_text(encoding="utf-8"))
        )
        models = meta["localhf"]["models"]
        assert models.keys() == {"text", "clip_text", "image", "rerank"}
        assert models["text"]["fingerprint"] == HuggingFaceEmbeddings(model_name=str(minilm)).fingerprint
        assert (models["text"]["dimension"], models["text"]["max_tokens"]) == (384, 256)

    def test_it_never_waits(self, client: httpx.Client) -> None:
        """While the model has seconds of work, `/meta` and health are answered at once."""
        corpus = {"inputs": [f"{number} {'word ' * 250}" for number in range(32)]}
        with ThreadPoolExecutor(1) as thread:
            work = thread.submit(client.post, "/embed", json=corpus)
            waited = []
            while not work.done():
                for path in ("/meta", "/.well-known/ready", "/.well-known/live"):
                    started = time.perf_counter()
                    assert client.get(path).is_success
                    waited.append(time.perf_counter() - started)
                    time.sleep(0.01)
            assert work.result().status_code == 200
        assert len(waited) > 10
        assert max(waited) < work.result().elapsed.total_seconds() / 2


def _not_scaled(folder: Path, prompts: dict[str, str]) -> Path:
    """A model for texts with prompts, whose vectors have any length."""
    dual_encoders.text_tower(folder)
    path = folder / "config_sentence_transformers.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(settings | {"prompts": prompts}), encoding="utf-8")
    return folder
