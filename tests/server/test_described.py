"""What a server says of its models."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import httpx
import pytest
from support import checkpoints, compiled

from langchain_localhf import HuggingFaceCrossEncoder, HuggingFaceEmbeddings
from langchain_localhf.server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.servers import RunningServer

pytestmark = pytest.mark.loopback


def test_compiled_models(serving: Callable[..., RunningServer]) -> None:
    """The engine, the precision, and the fingerprints that the models have everywhere."""
    folders = [str(model.folder) for model in (compiled.tiny(), compiled.dual_encoder(), compiled.cross_encoder())]
    url = serving(ServerSettings(text=folders[0], clip=folders[1], rerank=folders[2])).url
    models = httpx.get(f"{url}/meta", trust_env=False).json()["localhf"]["models"]
    assert {model["engine"] for model in models.values()} == {"openvino"}
    assert {model["dtype"] for model in models.values()} == {"float32"}
    assert models["text"]["fingerprint"] == HuggingFaceEmbeddings(model_name=folders[0]).fingerprint
    assert models["image"]["fingerprint"] == models["clip_text"]["fingerprint"]
    assert models["rerank"]["fingerprint"] == HuggingFaceCrossEncoder(model_name=folders[2])._model.fingerprint()
    assert models["rerank"]["fingerprint"] is not None
    long = {"texts": ["river", "river " * 500]}
    assert httpx.post(f"{url}/vectorize", json=long, trust_env=False).headers["x-truncated-inputs"] == "1"
    reply = httpx.post(f"{url}/rerank", json={"query": "river", **long}, trust_env=False)
    assert reply.headers["x-truncated-inputs"] == "1"


def test_a_pulled_model(serving: Callable[..., RunningServer], tiny: Path, store_home: Path) -> None:
    """Its name and its commit."""
    checkpoints.stored(store_home, "org/tiny", tiny)
    info = httpx.get(f"{serving(ServerSettings(text='org/tiny')).url}/info", trust_env=False).json()
    assert (info["model_id"], info["served_model_name"], info["model_sha"]) == (
        "org/tiny",
        "org/tiny",
        checkpoints.COMMIT,
    )


def test_from_memory(serving: Callable[..., RunningServer], tiny: Path, tmp_path: Path) -> None:
    """No file of the model is read by who asks."""
    reranker = checkpoints.classifier(tmp_path / "reranker")
    url = serving(ServerSettings(text=str(tiny), rerank=str(reranker))).url
    shutil.rmtree(tiny)
    shutil.rmtree(reranker)
    for path in ("/meta", "/info"):
        reply = httpx.get(f"{url}{path}", trust_env=False)
        assert reply.status_code == 200
        assert reply.json()["localhf"]["models"]["text"]["dtype"] == "float32"
