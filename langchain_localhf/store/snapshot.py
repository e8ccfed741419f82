"""A repository at one commit, as its hub lists it: what a download is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_localhf.store.hashing import git_sha1_of, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, as the hub lists it.

    Attributes:
        path: Its path in the repository.
        size_bytes: Its size.
        git_sha1: Its git blob id; for a file in LFS that of its pointer.
        sha256: Its SHA-256 if it is in LFS, else None.
    """

    path: str
    size_bytes: int
    git_sha1: str
    sha256: str | None

    @property
    def expected_hash(self) -> str:
        """What the content must hash to, with the name of the hash."""
        return f"sha256 {self.sha256}" if self.sha256 else f"git sha1 {self.git_sha1}"

    def actual_hash(self, folder: Path) -> str:
        """What the file in `folder` hashes to, in the same form."""
        path = folder / self.path
        return f"sha256 {sha256_of(path)}" if self.sha256 else f"git sha1 {git_sha1_of(path)}"

    def is_in(self, folder: Path) -> bool:
        """Whether `folder` holds exactly this file."""
        path = folder / self.path
        return (
            path.is_file() and path.stat().st_size == self.size_bytes and self.actual_hash(folder) == self.expected_hash
        )


@dataclass(frozen=True)
class RemoteSnapshot:
    """A repository at one commit.

    Attributes:
        name: The repository.
        revision: The branch, tag or commit that was asked for.
        commit: The commit that it stood for.
        files: Every file.
    """

    name: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def paths(self) -> list[str]:
        """The path of every file."""
        return [file.path for file in self.files]

    def size_bytes(self, paths: Iterable[str]) -> int:
        """The size of the files at `paths` together."""
        wanted = set(paths)
        return sum(file.size_bytes for file in self.files if file.path in wanted)
