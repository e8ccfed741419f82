"""Snapshots in a Hugging Face cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.checkpoints import COMMIT, hub_cache

from langchain_localhf.store.hub_cache import find_snapshot

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def snapshot(tmp_path: Path, tiny: Path) -> Path:
    """A snapshot of `org/name` on `main` in the cache `tmp_path/cache`."""
    return hub_cache(tmp_path / "cache", "org/name", tiny)


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_found_by_branch_and_by_commit(tmp_path: Path, snapshot: Path, revision: str | None) -> None:
    """A branch is looked up in `refs`, a commit is the snapshot's own name."""
    assert find_snapshot("org/name", revision, tmp_path / "cache") == snapshot


@pytest.mark.parametrize(
    ("repository", "revision"),
    [("org/name", "v2"), ("org/name", COMMIT[:7]), ("org/name", "f" * 40), ("org/other", None), ("no good", None)],
)
def test_what_is_not_there_is_none(tmp_path: Path, snapshot: Path, repository: str, revision: str | None) -> None:
    """Another revision, another repository, or a name that the hub does not allow."""
    assert snapshot.is_dir()
    assert find_snapshot(repository, revision, tmp_path / "cache") is None


def test_without_a_branch_only_the_commit_finds_it(tmp_path: Path, tiny: Path) -> None:
    """A snapshot that no branch points to is not taken for `main`."""
    snapshot = hub_cache(tmp_path / "cache", "org/name", tiny, ref=None)
    assert find_snapshot("org/name", None, tmp_path / "cache") is None
    assert find_snapshot("org/name", COMMIT, tmp_path / "cache") == snapshot


def test_a_plain_checkpoint_is_found_by_its_config(tmp_path: Path, snapshot: Path) -> None:
    """A snapshot without `modules.json` counts as well, but one with neither description does not."""
    (snapshot / "modules.json").unlink()
    assert find_snapshot("org/name", None, tmp_path / "cache") == snapshot
    (snapshot / "config.json").unlink()
    assert find_snapshot("org/name", None, tmp_path / "cache") is None
