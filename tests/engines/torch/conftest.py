"""Fixtures for the torch engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import remote_checkpoints

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def jina(tmp_path: Path) -> Path:
    """A model as jina's: `model_type` is bert, and its code is another repository's, vendored."""
    return remote_checkpoints.alibi(positions=128).build(tmp_path / "jina")
