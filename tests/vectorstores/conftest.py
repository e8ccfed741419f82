"""Fixtures for the vector stores: tiny models, a database, and a count of what is embedded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import chromadb
import pytest
from support import checkpoints

from langchain_localhf import HuggingFaceEmbeddings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def embeddings(tiny: Path) -> HuggingFaceEmbeddings:
    """The embeddings of a tiny model."""
    return HuggingFaceEmbeddings(model_name=str(tiny))


@pytest.fixture
def other(tmp_path: Path) -> HuggingFaceEmbeddings:
    """The embeddings of another model, with vectors of the same length."""
    folder = checkpoints.sentence_transformer(tmp_path / "other")
    checkpoints.edit_weights(folder, lambda tensors: {name: tensor.flip(0) for name, tensor in tensors.items()})
    return HuggingFaceEmbeddings(model_name=str(folder))


@pytest.fixture(params=["persistent", "in memory"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[chromadb.ClientAPI]:
    """An empty database of each kind."""
    if request.param == "persistent":
        yield chromadb.PersistentClient(tmp_path / "db")
        return
    client = chromadb.EphemeralClient()  # all of them in a process are one database
    yield client
    for collection in client.list_collections():
        client.delete_collection(collection.name)


@pytest.fixture
def encoded(embeddings: HuggingFaceEmbeddings, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The texts of each call that reaches the model of `embeddings`."""
    encoder = embeddings._model.encoder
    real = encoder.encode
    calls: list[list[str]] = []

    def encode(texts: list[str], **settings: Any) -> Any:
        calls.append(list(texts))
        return real(texts, **settings)

    monkeypatch.setattr(encoder, "encode", encode)
    return calls
