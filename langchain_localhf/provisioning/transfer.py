"""From the hub to the door of the store: the files of one model, from every repository that they lie in."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_localhf.checkpoint import code as checkpoint_code
from langchain_localhf.errors import LockfileError
from langchain_localhf.provisioning.admission import admit
from langchain_localhf.store import hub
from langchain_localhf.store.disk import formatted_size, free_bytes, require_space
from langchain_localhf.store.hub_cache import find_snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from langchain_localhf.store.locations import Locations
    from langchain_localhf.store.manifest import Manifest
    from langchain_localhf.store.model_store import LocalModel, ModelStore
    from langchain_localhf.store.snapshot import RemoteSnapshot


@dataclass(frozen=True)
class Part:
    """Files of one repository at one commit, and where they belong.

    Attributes:
        snapshot: The repository at that commit.
        paths: The files, as the repository names them.
        folder: Where they belong, relative to the model's folder: empty, or ending in a slash.
    """

    snapshot: RemoteSnapshot
    paths: tuple[str, ...]
    folder: str = ""

    def in_room(self, room: Path) -> Path:
        """Where the files are while a model is read: each repository has a folder of its own."""
        return room / (self.folder or "model")


@dataclass(frozen=True)
class Plan:
    """What a pull is to bring.

    Attributes:
        model: The files of the model's own repository, its code among them if it is trusted.
        code: The code of other repositories.
        trusted: Whether there is something that the user has to trust, and does.
    """

    model: Part
    code: tuple[Part, ...] = ()
    trusted: bool = False


@dataclass(frozen=True)
class Transfer:
    """What every step of one pull needs.

    Attributes:
        store: Where the models go.
        places: The address of the hub, and folders that may hold some of the files already.
        show_progress: Whether to say on stderr what happens, with progress bars.
    """

    store: ModelStore
    places: Locations
    show_progress: bool

    def say(self, text: str) -> None:
        """Tells the user what happens, if that is wanted."""
        if self.show_progress:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def say_waiting(self, name: str) -> None:
        """Tells the user why nothing happens."""
        self.say(f"waiting for another process that is pulling {name}")

    def resolve(self, repository: str, commit: str | None = None) -> RemoteSnapshot:
        """Asks the hub what a repository holds, at a commit or on `main`.

        Raises:
            PullError: It is not there, or the hub cannot be reached.
        """
        return hub.resolve([repository], commit, self.places.endpoint)

    def current(self, name: str) -> LocalModel | None:
        """The model of this name that is in the store, unless its manifest is damaged."""
        try:
            return self.store.find(name)
        except LockfileError:  # what is being pulled now replaces it
            return None

    def require_room(self, snapshot: RemoteSnapshot, paths: Iterable[str]) -> None:
        """Checks that what is still to be fetched of the files at `paths` fits on the disk of the store.

        Raises:
            PullError: It does not.
        """
        wanted, staged = set(paths), self.store.staged(snapshot.name)
        files = [file for file in snapshot.files if file.path in wanted and not file.is_in(staged)]
        require_space(snapshot.name, sum(file.size_bytes for file in files), self.store.home)

    def read(self, name: str, part: Part, room: Path) -> Path:
        """Brings small files of the model called `name` to a folder in `room`, to look into them.

        Raises:
            PullError: The network, the hub or the disk stands in the way.
            IntegrityError: A file arrived with wrong bytes, twice.
        """
        into = part.in_room(room)
        into.mkdir(parents=True, exist_ok=True)
        here = [self.store.staged(name) / part.folder, self.store.folder(name) / part.folder]
        self._download(part, into, here, show_progress=False)
        return into

    def bring(self, plan: Plan, manifest: Manifest, *, room: Path | None = None) -> LocalModel:
        """Downloads what a plan says, and puts it into the store if it passes every check there.

        Args:
            plan: The files.
            manifest: The model's name and origin.
            room: Where some of them were read.

        Raises:
            PullError: The network, the hub or the disk stands in the way.
            IntegrityError: Files arrived with wrong bytes.
            CheckpointError: The model is incomplete, unsafe or unsound.
        """
        name, staged = manifest.name, self.store.staging(manifest.name)
        snapshot, paths = plan.model.snapshot, plan.model.paths
        size, free = formatted_size(snapshot.size_bytes(paths)), formatted_size(free_bytes(staged))
        commit = snapshot.commit[:12]
        self.say(f"pulling {name}, commit {commit}: {len(paths)} files, {size}; {free} free in {self.store.home}")
        for part in plan.code:
            self.say(f"  and code of {part.snapshot.name}, commit {part.snapshot.commit[:12]}: {len(part.paths)} files")
        for part in (plan.model, *plan.code):
            into = staged / part.folder
            into.mkdir(parents=True, exist_ok=True)
            here = [part.in_room(room)] if room else []
            here.append(self.store.folder(name) / part.folder)
            self._download(part, into, here, show_progress=self.show_progress)
        self.say(f"checking {name}")
        return admit(self.store, staged, manifest)

    def _download(self, part: Part, into: Path, here: Iterable[Path], *, show_progress: bool) -> None:
        snapshot = part.snapshot
        cached = [find_snapshot(snapshot.name, snapshot.commit, cache) for cache in self.places.hub_caches]
        hub.download(
            snapshot,
            part.paths,
            into,
            endpoint=self.places.endpoint,
            reuse_from=[*here, *filter(None, cached)],
            show_progress=show_progress,
        )


def part_of(snapshot: RemoteSnapshot, paths: Iterable[str], *, repository: str) -> Part:
    """A part with these files; `repository` is empty for the model's own."""
    return Part(snapshot, tuple(sorted(paths)), checkpoint_code.vendored_folder(repository))
