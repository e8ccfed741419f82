"""Fixtures: a hub with the tiny model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.fake_hub import TINY, FakeHub, running_hub

from langchain_localhf import engines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def hub(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the tiny model."""
    with running_hub(monkeypatch) as running:
        running.upload(TINY, tiny)
        yield running


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no engine were installed, where a test is not about loading."""
    monkeypatch.setattr(engines, "installed", lambda _backend="torch": False)
