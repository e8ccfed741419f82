"""The code of a model: found in whatever repositories it lies in, and brought together; nothing of it is run here.

What a model's files name is followed from import to import until nothing is missing, so that a machine without a
network has all of it. Only what is needed is brought, and only if the user trusts it.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from langchain_localhf.checkpoint import code as checkpoint_code
from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.errors import IncompleteModelError, PullError
from langchain_localhf.provisioning.transfer import Plan, part_of
from langchain_localhf.store import files as model_files
from langchain_localhf.store.hub_cache import find_sibling
from langchain_localhf.store.manifest import CodeOrigin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from langchain_localhf.checkpoint.code import CodeReference
    from langchain_localhf.provisioning.transfer import Transfer
    from langchain_localhf.store.manifest import Manifest
    from langchain_localhf.store.snapshot import RemoteSnapshot

_OTHER_LIBRARIES = ("TF", "Flax")


class CodeSource(Protocol):
    """Where code can be had. A repository is named as in a reference: the model's own is empty."""

    def has(self, repository: str, path: str) -> bool:
        """Whether the repository holds a file."""

    def read(self, repository: str, paths: Sequence[str]) -> dict[str, bytes]:
        """The content of files that it holds, by path."""


def plan(transfer: Transfer, snapshot: RemoteSnapshot, room: Path, *, trusted: bool, pins: Mapping[str, str]) -> Plan:
    """Decides what a pull is to bring, from the small files that say what the model is. Weights are not asked for.

    Args:
        transfer: The pull.
        snapshot: The model's repository.
        room: An empty folder; what was read is in it afterwards.
        trusted: Whether the user trusts the model's code.
        pins: The commits that other repositories are wanted at, by name; else what their `main` stands for now.

    Raises:
        UnsafeModelError: The model needs code that the user does not trust, or does what trust does not cover.
        IncompleteModelError: It names code that is not where it should be.
        CheckpointError: A file is damaged.
        PullError: The network or the hub stands in the way; or another repository with code is not there.
    """
    paths = model_files.needed(snapshot.paths)
    code = HubCode(transfer, snapshot, room, pins)
    checkpoint = Checkpoint.read(code.bring("", model_files.descriptions(paths)))
    checkpoint.require_trust(trust_remote_code=True)  # what is refused in any case, before another repository is asked
    if not trusted:
        foreign = {reference.repository for reference in checkpoint.foreign_code()}
        commits = {repository: code.snapshot(repository).commit for repository in foreign}
        checkpoint.require_trust(name=snapshot.name, commits=commits)
    references = code_to_bring(checkpoint, snapshot.name) if trusted else []
    sources = gather(references, code, name=snapshot.name)
    by_repository = _by_repository(sources)
    own = by_repository.pop("", [])
    return Plan(
        model=part_of(snapshot, [*paths, *own], repository=""),
        code=tuple(part_of(code.snapshot(found), paths, repository=found) for found, paths in by_repository.items()),
        trusted=trusted and needs_trust(checkpoint),
    )


def needs_trust(checkpoint: Checkpoint) -> bool:
    """Whether there is anything about a model that trust would change."""
    return bool(code_to_bring(checkpoint, "") or checkpoint.foreign_activations)


def code_to_bring(checkpoint: Checkpoint, name: str) -> list[CodeReference]:
    """The classes that a model may need here, for whatever task; the repository `name` is its own."""
    return [
        # Some models name their own repository in full.
        replace(reference, repository="") if reference.repository == name else reference
        for reference in checkpoint.code
        if not reference.auto_class.startswith(_OTHER_LIBRARIES)
    ]


def gather(references: Sequence[CodeReference], source: CodeSource, *, name: str) -> dict[str, bytes]:
    """All the code that classes need, by its path relative to the model's folder.

    What the code imports inside a `try` is brought, too, if it is there: with it the code may run another way.

    Args:
        references: The classes.
        source: Where their code can be had.
        name: The model, for messages.

    Raises:
        IncompleteModelError: The source does not have it.
        CheckpointError: It is no Python, or imports from outside of its repository.
        PullError: A repository cannot be read.
    """
    sources: dict[str, bytes] = {}
    found = True
    while found:
        found = False
        for repository, paths in checkpoint_code.missing_files(references, sources, optional=True).items():
            folder = checkpoint_code.vendored_folder(repository)
            there = [place for path in paths if (place := _place(source, repository, path.removeprefix(folder)))]
            sources |= {folder + path: content for path, content in source.read(repository, there).items()}
            found = found or bool(there)
    if missing := checkpoint_code.missing_files(references, sources):
        files = [path for paths in missing.values() for path in paths]
        lines = "".join(
            f"\n  {path.removeprefix(checkpoint_code.vendored_folder(repository))} of "
            f"{repository or 'its own repository'}"
            for repository, paths in missing.items()
            for path in paths
        )
        msg = f"{name} needs code that is not where it names it:{lines}"
        raise IncompleteModelError(msg, missing=files, hint="use another revision of the model, or tell its authors")
    return sources


def local_code(
    checkpoint: Checkpoint, manifest: Manifest | None, *, name: str
) -> tuple[dict[str, Path], tuple[CodeOrigin, ...]]:
    """The code of a model that is in a folder, and which other repositories it is from.

    Args:
        checkpoint: The model.
        manifest: What its folder should hold, or None if nobody wrote that down.
        name: The name that the model is to have.

    Returns:
        Each file, by the path that it is to have in the model's folder; and the repositories, sorted.

    Raises:
        IncompleteModelError: Code is missing.
        CheckpointError: It is no Python, or imports from outside of its repository.
    """
    source = FolderCode(checkpoint.folder, manifest)
    paths = gather(code_to_bring(checkpoint, name), source, name=name)
    places = {path: source.place(*checkpoint_code.repository_of(path)) for path in paths}
    origins = tuple(source.origin(repository) for repository in _by_repository(paths) if repository)
    return places, origins


class HubCode:
    """Code as the hub has it, every file with the hash that the hub lists.

    Args:
        transfer: The pull.
        model: The model's own repository.
        room: Where the files go.
        pins: The commits that other repositories are wanted at, by name.
    """

    def __init__(self, transfer: Transfer, model: RemoteSnapshot, room: Path, pins: Mapping[str, str]) -> None:
        self._transfer = transfer
        self._room = room
        self._pins = pins
        self._name = model.name
        self._snapshots = {"": model, model.name: model}
        self._paths: dict[str, set[str]] = {}

    def snapshot(self, repository: str) -> RemoteSnapshot:
        """A repository at the commit that this pull takes.

        Raises:
            PullError: It is not there, or the hub cannot be reached.
        """
        if repository not in self._snapshots:
            with self._explained(repository):
                self._snapshots[repository] = self._transfer.resolve(repository, self._pins.get(repository))
        return self._snapshots[repository]

    def has(self, repository: str, path: str) -> bool:
        """Whether the repository holds a file.

        Raises:
            PullError: There is no such repository, or the hub cannot be reached.
        """
        return path in self.snapshot(repository).paths

    def read(self, repository: str, paths: Sequence[str]) -> dict[str, bytes]:
        """The content of files that it holds, by path.

        Raises:
            PullError: The network, the hub or the disk stands in the way.
            IntegrityError: A file arrived with wrong bytes, twice.
        """
        folder = self.bring(repository, paths)
        return {path: (folder / path).read_bytes() for path in paths}

    def bring(self, repository: str, paths: Sequence[str]) -> Path:
        """Brings files here, beside those of the repository that are here already; gives the folder.

        Raises:
            PullError: The network, the hub or the disk stands in the way.
            IntegrityError: A file arrived with wrong bytes, twice.
        """
        known = self._paths.setdefault(repository, set())
        known.update(paths)
        with self._explained(repository):
            part = part_of(self.snapshot(repository), known, repository=repository)
            return self._transfer.read(self._name, part, self._room)

    @contextlib.contextmanager
    def _explained(self, repository: str) -> Iterator[None]:
        try:
            yield
        except PullError as error:
            if not repository:
                raise
            msg = f"{self._name} needs code of {repository}: {error.message}"
            raise PullError(msg, hint=error.hint) from error


class FolderCode:
    """Code as a folder on this machine has it: a plain folder, a copy of one in a store, or one in the hub's cache.

    Args:
        folder: The model's folder.
        manifest: What it should hold, or None if nobody wrote that down.
    """

    def __init__(self, folder: Path, manifest: Manifest | None) -> None:
        self._folder = folder
        self._name = manifest.name if manifest else None
        self._commits = manifest.commits if manifest else {}

    def origin(self, repository: str) -> CodeOrigin:
        """Which commit the code of a repository is at, as far as that is known."""
        commit = self._commits.get("" if repository == self._name else repository)
        sibling = find_sibling(self._folder, repository)
        if commit is None and sibling is not None and not self._vendored(repository).is_dir():
            commit = sibling.name
        return CodeOrigin(repository=repository, commit=commit)

    def place(self, repository: str, path: str) -> Path:
        """Where a file of a repository is, or would be."""
        if repository in ("", self._name):
            return self._folder / path
        sibling = find_sibling(self._folder, repository)
        if sibling is not None and not self._vendored(repository).is_dir():
            return sibling / path
        return self._vendored(repository) / path

    def has(self, repository: str, path: str) -> bool:
        """Whether the repository's file is here."""
        return self.place(repository, path).is_file()

    def read(self, repository: str, paths: Sequence[str]) -> dict[str, bytes]:
        """The content of files that are here, by path."""
        return {path: self.place(repository, path).read_bytes() for path in paths}

    def _vendored(self, repository: str) -> Path:
        return self._folder / checkpoint_code.vendored_folder(repository)


def _place(source: CodeSource, repository: str, path: str) -> str | None:
    """The file that a module is: itself, or that of a package."""
    candidates = (path, f"{path.removesuffix('.py')}/__init__.py")
    return next((candidate for candidate in candidates if source.has(repository, candidate)), None)


def _by_repository(paths: Mapping[str, object]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for repository, path in map(checkpoint_code.repository_of, sorted(paths)):
        grouped.setdefault(repository, []).append(path)
    return dict(sorted(grouped.items()))
