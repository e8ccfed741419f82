"""Fixtures for the whole suite; every test runs with its own empty home and without a network."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from support import checkpoints
from support.network import NetworkGuard
from support.tracing import be_patient

# Before a test imports openvino itself, which would report that to its maker.
import langchain_localhf.engines.openvino  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

be_patient()
# How long an example takes is the machine's affair.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
_guard = NetworkGuard()


@pytest.fixture(autouse=True)
def network(request: pytest.FixtureRequest) -> Iterator[NetworkGuard]:
    """Fails the test that tries to reach the network; `@pytest.mark.loopback` allows this machine's own address."""
    _guard.attempts.clear()
    _guard.loopback_allowed = request.node.get_closest_marker("loopback") is not None
    _guard.on = True
    yield _guard
    _guard.on = False
    attempts = list(_guard.attempts)
    assert attempts == [], f"reached for the network: {attempts}"


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty home folder, gone after the test with its models, and an environment that names no model folder."""
    folder = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(
            ("HF_", "LOCALHF_", "SENTENCE_TRANSFORMERS_", "HUGGINGFACE_", "XDG_", "LANGSMITH_", "LANGCHAIN_")
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def store_home(home: Path) -> Path:
    """The folder of the store that the environment of this test names."""
    return home / ".cache" / "localhf"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the real all-MiniLM-L6-v2; do not change it."""
    return checkpoints.minilm_folder()


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A tiny sentence-transformers model to change at will."""
    return checkpoints.sentence_transformer(tmp_path / "tiny")
