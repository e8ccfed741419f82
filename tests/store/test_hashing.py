"""The hashes of files: which they are, and when they are computed."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from langchain_localhf.store import hashing
from langchain_localhf.store.hashing import git_sha1_of, sha256_of
from langchain_localhf.store.manifest import Differences, Manifest, compare, describe

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_git_hash(tmp_path: Path) -> None:
    """The hash that the hub gives for small files is git's."""
    (tmp_path / "hello").write_text("hello\n")
    assert git_sha1_of(tmp_path / "hello") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_a_change_within_one_tick_of_the_clock_is_noticed(tmp_path: Path) -> None:
    """Equal size and equal times do not hide a change in a file that was hashed right after it was written."""
    path = tmp_path / "a"
    for content in ("one", "two"):
        path.write_text(content)
        os.utime(path, ns=(1, 1))
        assert compare(tmp_path, Manifest(name="a", source="folder", files=describe(tmp_path, ["a"]))) == Differences()
    assert len({sha256_of(path), "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"}) == 2


def test_a_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a file has rested for a moment, its hash is kept until it changes."""
    path = tmp_path / "a"
    path.write_text("one")
    time.sleep(0.05)
    first = sha256_of(path)
    monkeypatch.setattr(hashing.hashlib, "file_digest", None)
    assert sha256_of(path) == first
