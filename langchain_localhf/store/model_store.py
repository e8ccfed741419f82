"""The store: one folder a model, and where to find a model that is on this machine."""

from __future__ import annotations

import contextlib
import difflib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from langchain_localhf.errors import ModelNotFoundError
from langchain_localhf.store.files import MANIFEST_NAME
from langchain_localhf.store.manifest import Manifest
from langchain_localhf.store.reference import require_repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_localhf.store.locations import Locations
    from langchain_localhf.store.reference import Reference

_SHORTEST_COMMIT = 7


@dataclass(frozen=True)
class LocalModel:
    """A model that is on this machine.

    Attributes:
        name: Its repository, or its folder's name.
        folder: The folder with its files.
        manifest: What it should hold; None for a folder that no one pulled or added.
    """

    name: str
    folder: Path
    manifest: Manifest | None = None


class ModelStore:
    """A folder of models, each `org/name/` with a manifest, safe for several processes at once."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def folder(self, name: str) -> Path:
        """Where the model called `name` is, or would be.

        Raises:
            ModelReferenceError: This is no name of a model, and perhaps a path that leads out of the store.
        """
        require_repository(name)
        return self.home / name

    def find(self, name: str) -> LocalModel | None:
        """The model called `name`, or None.

        Raises:
            ModelReferenceError: This is no name of a model.
            LockfileError: Its manifest cannot be read.
        """
        folder = self.folder(name)
        manifest = Manifest.read(folder)
        return LocalModel(name, folder, manifest) if manifest else None

    def names(self) -> list[str]:
        """The names of every model in the store, sorted; none is opened."""
        manifests = [*self.home.glob(f"[!.]*/{MANIFEST_NAME}"), *self.home.glob(f"[!.]*/*/{MANIFEST_NAME}")]
        return sorted(path.parent.relative_to(self.home).as_posix() for path in manifests)

    def require(self, name: str) -> LocalModel:
        """The model called `name`.

        Raises:
            ModelNotFoundError: The store has no such model.
            LockfileError: Its manifest cannot be read.
        """
        model = self.find(name)
        if model is None:
            raise self._unknown(name)
        return model

    def models(self) -> list[LocalModel]:
        """Every model in the store, sorted by name.

        Raises:
            LockfileError: A manifest cannot be read.
        """
        return [model for name in self.names() if (model := self.find(name))]

    def remove(self, name: str) -> LocalModel:
        """Deletes a model.

        Raises:
            ModelNotFoundError: The store has no such model.
        """
        with self.locked(name):
            model = self.require(name)
            self._discard(model.folder)
        with contextlib.suppress(OSError):  # the organisation's folder stays while it has other models
            model.folder.parent.rmdir()
        return model

    def _unknown(self, name: str) -> ModelNotFoundError:
        near = difflib.get_close_matches(name, self.names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "`localhf list` shows what is there"
        return ModelNotFoundError(f"{name} is not in the store {self.home}", looked_in=(str(self.home),), hint=hint)

    @contextlib.contextmanager
    def locked(self, name: str, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
        """Holds the model called `name` for this process; others wait. Readers need no lock.

        Args:
            name: The model, or whatever else one process at a time may change.
            on_wait: Called once if another process holds it.
        """
        locks = self.home / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = FileLock(locks / f"{_flat(name)}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if on_wait is not None:
                on_wait()
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def staging(self, name: str) -> Path:
        """The folder in which the next version of a model is put together; what is in it survives a kill."""
        folder = self.staged(name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def staged(self, name: str) -> Path:
        """Where that folder is, or would be."""
        return self.home / ".partial" / _flat(name)

    @contextlib.contextmanager
    def reading_room(self, name: str) -> Iterator[Path]:
        """An empty folder for files that are read before it is decided whether a model may come; gone afterwards."""
        folder = self.home / ".partial" / f".{_flat(name)}"
        shutil.rmtree(folder, ignore_errors=True)  # of a pull that was killed
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def put(self, name: str, staged: Path) -> LocalModel:
        """Puts a finished folder, with its manifest, in the place of the model called `name`.

        A reader finds the old model or the new one, but for the instant between two renames, when it finds none.
        """
        target = self.folder(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        old = None
        if target.exists():
            old = self._set_aside(target)
        try:
            staged.replace(target)
        except OSError:
            if old:
                old.rename(target)
            raise
        if old:
            shutil.rmtree(old)
        return LocalModel(name, target, Manifest.read(target))

    def _set_aside(self, folder: Path) -> Path:
        trash = self.home / ".partial" / f"{_flat(folder.relative_to(self.home).as_posix())}.old-{os.getpid()}"
        trash.parent.mkdir(parents=True, exist_ok=True)
        return folder.rename(trash)

    def _discard(self, folder: Path) -> None:
        # Renamed first: a model that is half deleted must not look like a model.
        shutil.rmtree(self._set_aside(folder))


def locate(reference: Reference, locations: Locations) -> LocalModel:
    """Finds the folder of a model: the folder itself, then the store, then the Hugging Face caches. Never downloads.

    Raises:
        ModelNotFoundError: It is in none of them; the message says where it looked and how to bring it here.
    """
    if reference.folder is not None:
        folder = reference.folder
        manifest = Manifest.read(folder)
        return LocalModel(manifest.name if manifest else folder.resolve().name, folder, manifest)
    looked_in = [f"folder {Path(reference.text).absolute()}"]
    for name in reference.repositories:
        if locations.store is not None:
            model = ModelStore(locations.store).find(name)
            if model is not None and model.manifest is not None:
                if _is_revision(model.manifest, reference.revision):
                    return model
                looked_in.append(f"store {model.folder} (holds {_revision_of(model.manifest)})")
            else:
                looked_in.append(f"store {ModelStore(locations.store).folder(name)}")
        # The hub's library takes as long to import as a small model to load; the store does without it.
        from langchain_localhf.store.hub_cache import find_snapshot  # noqa: PLC0415 - as said

        for cache in locations.hub_caches:
            snapshot = find_snapshot(name, reference.revision, cache)
            if snapshot is not None:
                return LocalModel(name, snapshot)
    looked_in += [f"cache {cache}" for cache in locations.hub_caches]
    raise _not_found(reference, locations, looked_in)


def _not_found(reference: Reference, locations: Locations, looked_in: list[str]) -> ModelNotFoundError:
    lines = "".join(f"\n  {place}" for place in looked_in)
    hint = f"bring it here once, with a network: localhf pull {reference.command_argument}"
    if locations.store is not None:
        # Also names of models whose manifest is damaged: that is no reason to fail here.
        near = difflib.get_close_matches(
            reference.repositories[0], ModelStore(locations.store).names(), n=1, cutoff=0.8
        )
        if near and near[0] not in reference.repositories:
            hint += f"\n      or did you mean {near[0]}, which is here?"
    msg = (
        f"{reference.command_argument} is not on this machine, and nothing is downloaded at run time. Looked in:{lines}"
    )
    return ModelNotFoundError(msg, looked_in=looked_in, hint=hint)


def _is_revision(manifest: Manifest, revision: str | None) -> bool:
    if revision is None or revision in (manifest.revision, manifest.commit):
        return True
    return len(revision) >= _SHORTEST_COMMIT and (manifest.commit or "").startswith(revision)


def _revision_of(manifest: Manifest) -> str:
    if manifest.commit is None:
        return "an added folder"
    return f"{manifest.revision or 'commit'} {manifest.commit[:12]}"


def _flat(name: str) -> str:
    return name.replace("/", "--")
