"""No network at run time, whatever the environment says; the guard in `conftest.py` watches every other test, too."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from support.network import ONLINE, network_events

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import ModelNotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from support.network import NetworkGuard

SCRIPT = """
from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import ModelNotFoundError
embeddings = HuggingFaceEmbeddings(model_name=sys.argv[1])
embeddings.embed_documents(["a city", "https://127.0.0.1:9/picture.png"])
embeddings.embed_query("a city")
embeddings.fingerprint, embeddings.dimension
try:
    HuggingFaceEmbeddings(model_name="org/missing")
except ModelNotFoundError:
    events.append("not found")
"""


def test_nothing_is_connected_or_resolved(tiny: Path) -> None:
    """A process that loads, embeds and misses a model connects nowhere, though its environment invites it to."""
    assert network_events(SCRIPT, str(tiny)) == ["not found"]


def test_missing_model_is_reported_at_once(home: Path, network: NetworkGuard, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is not here is an error within a second, with where it looked and the command that brings it."""
    for name, value in ONLINE.items():
        monkeypatch.setenv(name, value)
    start = time.perf_counter()
    with pytest.raises(ModelNotFoundError, match="localhf pull org/missing") as caught:
        HuggingFaceEmbeddings(model_name="org/missing")
    assert time.perf_counter() - start < 1
    assert str(home) in str(caught.value)
    assert network.attempts == []
