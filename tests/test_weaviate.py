"""The guide to Weaviate: what Weaviate is told, against its client; all of it, against a real one if there is one.

With a Weaviate at WEAVIATE_URL (such as `http://127.0.0.1:8080`; gRPC at WEAVIATE_GRPC_PORT, else 50051) the guide's
own code runs. The server that Weaviate asks is started here; where Weaviate does not reach 127.0.0.1, LOCALHF_SERVE_URL
names one that it reaches, with all-MiniLM-L6-v2, a CLIP, and a cross-encoder.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import re
import runpy
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import weaviate
from support import checkpoints, dual_encoders
from support.servers import running
from weaviate.collections.classes.config import _CollectionConfigCreate
from weaviate.collections.query import _QueryCollection

from langchain_localhf import HuggingFaceEmbeddings, provisioning
from langchain_localhf.server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "guides" / "weaviate.md"
SERVER = "http://localhf:8080"
URL = os.environ.get("WEAVIATE_URL")
COLLECTIONS = ["Harbour", "Letters", "Pictures", "Sentence", "Picture"]


def code() -> list[str]:
    """The guide's Python, block by block."""
    return re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


class Recorder:
    """Stands for a client of which nothing is wanted but what it would tell Weaviate about collections."""

    def __init__(self) -> None:
        self.collections = self
        self.told: dict[str, dict[str, Any]] = {}

    def create(self, name: str, **settings: Any) -> None:
        """Keeps what a real client would send, which checks it on the way."""
        self.told[name] = _CollectionConfigCreate(name=name, **settings)._to_dict()


@pytest.fixture(scope="module")
def told() -> dict[str, dict[str, Any]]:
    """What the guide and the example tell Weaviate about their collections."""
    recorder = Recorder()
    names: dict[str, Any] = {"client": recorder}
    for block in code():
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "weaviate.classes.config":
                exec(ast.unparse(node), names)  # noqa: S102 - the guide's own
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "client.collections.create":
                exec(ast.unparse(node), names)  # noqa: S102 - as above
    example = runpy.run_path(str(ROOT / "examples" / "weaviate" / "search.py"))
    for settings in (example["sentences"](), example["pictures"]()):
        recorder.create(**settings)
    return recorder.told


@pytest.mark.parametrize("name", ["Letters", "Sentence"])
def test_weaviate_embeds_the_text_and_nothing_else(told: dict[str, dict[str, Any]], name: str) -> None:
    """Neither the collection's name nor metadata get into a vector, so it is that of LangChain's side."""
    settings = told[name]["vectorConfig"]["default"]["vectorizer"]["text2vec-transformers"]
    assert (settings["vectorizeClassName"], settings["properties"]) == (False, ["text"])
    [text] = [one for one in told[name]["properties"] if one["name"] == "text"]
    assert text["vectorize_property_name"] is False
    assert told[name]["moduleConfig"] == {"reranker-transformers": {}}


@pytest.mark.parametrize("name", ["Pictures", "Picture"])
def test_weaviate_embeds_pictures(told: dict[str, dict[str, Any]], name: str) -> None:
    """The picture alone, and not its path."""
    settings = told[name]["vectorConfig"]["default"]["vectorizer"]["multi2vec-clip"]
    assert (settings["imageFields"], settings.get("textFields")) == (["image"], None)


def test_own_vectors_have_no_vectorizer(told: dict[str, dict[str, Any]]) -> None:
    """Whatever Weaviate's default is; and the vector has the name that MMR reads."""
    assert told["Harbour"]["vectorConfig"]["default"]["vectorizer"] == {"none": {}}


def test_what_the_guide_passes_on_is_known() -> None:
    """LangChain hands on what it does not know itself; Weaviate's client has each of these arguments."""
    functions = {"similarity_search": "hybrid", "fetch_objects": "fetch_objects", "near_text": "near_text"}
    calls = [node for node in ast.walk(ast.parse("\n".join(code()))) if isinstance(node, ast.Call)]
    seen = set()
    for call in calls:
        name = ast.unparse(call.func).rpartition(".")[2]
        if name in functions:
            seen.add(name)
            known = inspect.signature(getattr(_QueryCollection, functions[name])).parameters
            assert {keyword.arg for keyword in call.keywords} <= {"k", *known}
    assert seen == functions.keys()


@pytest.fixture(scope="module")
def server(minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server that the guide describes; its CLIP and its cross-encoder are tiny."""
    folder = tmp_path_factory.mktemp("served")
    clip, reranker = dual_encoders.clip(folder / "clip"), checkpoints.cross_encoder(folder / "reranker")
    with running(ServerSettings(text=str(minilm), clip=str(clip), rerank=str(reranker))) as started:
        yield started.url


@pytest.mark.loopback
@pytest.mark.parametrize("task", ["passage", "query"])
def test_both_sides_give_the_same_vectors(server: str, minilm: Path, task: str) -> None:
    """What Weaviate asks for a document or a query is what LangChain computes for it."""
    body = {
        "text": "All ships anchor in the bay.", "dims": 0, "vector": None, "error": "",
        "config": {"pooling_strategy": "masked_mean", "task_type": task},
    }  # fmt: skip
    reply = httpx.post(f"{server}/vectors", json=body, trust_env=False).json()
    embeddings = HuggingFaceEmbeddings(model_name=str(minilm))
    expected = (
        embeddings.embed_query(body["text"]) if task == "query" else embeddings.embed_documents([body["text"]])[0]
    )
    np.testing.assert_allclose(reply["vector"], expected, atol=1e-6)


@contextlib.contextmanager
def connected() -> Iterator[Any]:
    """A Weaviate without the guide's collections, which `connect_to_local` finds for as long as the context is held."""
    address = urlsplit(URL or "")
    host, port = address.hostname or "127.0.0.1", address.port or 8080
    grpc_port = int(os.environ.get("WEAVIATE_GRPC_PORT", "50051"))
    connect = weaviate.connect_to_local
    with connect(host, port, grpc_port, skip_init_checks=True) as client:
        client.collections.delete(COLLECTIONS)
        with patch.object(weaviate, "connect_to_local", lambda: connect(host, port, grpc_port, skip_init_checks=True)):
            yield client
        client.collections.delete(COLLECTIONS)


@pytest.mark.loopback
@pytest.mark.skipif(URL is None, reason="needs a real Weaviate with the three modules; WEAVIATE_URL names it")
def test_the_guide_with_a_real_weaviate(
    server: str, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every block of the guide, in order; then the pictures that it finds are those that were put there."""
    provisioning.add(minilm, "sentence-transformers/all-MiniLM-L6-v2")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for seed in range(3):
        dual_encoders.picture(seed).save(tmp_path / "pictures" / f"{seed}.jpg")
    reached = os.environ.get("LOCALHF_SERVE_URL", server)
    names: dict[str, Any] = {}
    with connected() as client:
        modules = set(client.get_meta()["modules"])
        assert {"text2vec-transformers", "multi2vec-clip", "reranker-transformers"} <= modules
        for block in code():
            exec(block.replace(SERVER, reached), names)  # noqa: S102 - the guide's own
    assert sorted(picture.properties["path"] for picture in names["nearest"].objects) == [
        f"pictures/{seed}.jpg" for seed in range(3)
    ]


@pytest.mark.loopback
@pytest.mark.skipif(URL is None, reason="needs a real Weaviate with the three modules; WEAVIATE_URL names it")
def test_the_example_with_a_real_weaviate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It finds sentences and pictures, with the server that Weaviate itself was told of."""
    path = tmp_path / "a.jpg"
    dual_encoders.picture().save(path)
    example = runpy.run_path(str(ROOT / "examples" / "weaviate" / "search.py"))
    with connected():
        example["main"]("Where do the ships lie?", [])
        sentences = capsys.readouterr().out.splitlines()
        example["main"]("a harbour", [str(path)])
    assert len(sentences) == 3
    assert set(sentences) <= set(example["SENTENCES"])
    assert capsys.readouterr().out == f"{path}\n"
