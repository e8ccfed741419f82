"""One real server for all tests that only ask, and more of them for tests that need other settings."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import httpx
import pytest
from support import checkpoints, dual_encoders
from support.servers import RunningServer, running

from langchain_localhf.server.settings import ServerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny plain Hugging Face CLIP; do not change it."""
    return dual_encoders.clip(tmp_path_factory.mktemp("served") / "clip")


@pytest.fixture(scope="session")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny cross-encoder with one label; do not change it."""
    return checkpoints.cross_encoder(tmp_path_factory.mktemp("served") / "reranker")


@pytest.fixture(scope="session")
def running_server(minilm: Path, clip: Path, reranker: Path) -> Iterator[RunningServer]:
    """A server with the real all-MiniLM-L6-v2 for texts, a tiny CLIP, and a tiny cross-encoder; do not change it."""
    with running(ServerSettings(text=str(minilm), clip=str(clip), rerank=str(reranker))) as server:
        yield server


@pytest.fixture(scope="session")
def server(running_server: RunningServer) -> str:
    """The address of that server, without a slash at the end."""
    return running_server.url


@pytest.fixture(scope="session")
def client(server: str) -> Iterator[httpx.Client]:
    """A client of that server."""
    with httpx.Client(base_url=server, trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def serving() -> Iterator[Callable[..., RunningServer]]:
    """Starts a server with these settings, which ends with the test; see `support.servers.running`."""
    with contextlib.ExitStack() as servers:
        yield lambda settings, **options: servers.enter_context(running(settings, **options))
