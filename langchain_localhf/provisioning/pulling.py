"""From the hub into the store."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_localhf import engines
from langchain_localhf.errors import LockfileError, ModelReferenceError, UnsafeModelError
from langchain_localhf.provisioning.admission import admit
from langchain_localhf.provisioning.inventory import locked_models, the_store, verify
from langchain_localhf.store import files as model_files
from langchain_localhf.store import hub, locations
from langchain_localhf.store.disk import formatted_size, free_bytes
from langchain_localhf.store.hub_cache import find_snapshot
from langchain_localhf.store.lockfile import LOCKFILE_NAME, Lockfile
from langchain_localhf.store.manifest import Manifest
from langchain_localhf.store.model_store import LocalModel
from langchain_localhf.store.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_localhf.store.lockfile import LockedModel
    from langchain_localhf.store.model_store import ModelStore
    from langchain_localhf.store.snapshot import RemoteSnapshot

_Say = Callable[[str], None]


def pull(
    *models: str, lock: str | Path | None = None, locked: bool = False, show_progress: bool = False
) -> list[LocalModel]:
    """Downloads models, verifies and checks them, and puts them into the store.

    What is there already and intact is not fetched again, and a pull that was killed goes on where it was.

    Args:
        models: `org/name`, `name`, or either with `@revision`.
        lock: A lockfile. It is updated with these models, or, with `locked`, obeyed.
        locked: Whether to bring exactly what the lockfile says, byte for byte, and to leave it as it is; all of its
            models if none is named. The lockfile is `localhf.lock` unless `lock` names another.
        show_progress: Whether to say on stderr what happens, with progress bars.

    Returns:
        The models, in the order in which they were named.

    Raises:
        ModelReferenceError: A name cannot be read.
        PullError: The network, the hub or the disk stands in the way.
        IntegrityError: Files arrived with wrong bytes.
        CheckpointError: A model is incomplete, unsafe or unsound; the one in the store stays as it was.
        LockfileError: The lockfile cannot be read, or the hub does not have what it says.
    """
    store, say = the_store(), _to_stderr if show_progress else _quiet
    if locked:
        wanted = _select(Lockfile.read(Path(lock or LOCKFILE_NAME)), models, Path(lock or LOCKFILE_NAME))
        return [_pull_locked(store, entry, say, show_progress=show_progress) for entry in wanted]
    if not models:
        msg = "no model was named"
        raise ModelReferenceError(msg, hint="name one, such as `localhf pull sentence-transformers/all-MiniLM-L6-v2`")
    references = [_reference(name) for name in models]
    pulled = [_pull(store, reference, say, show_progress=show_progress) for reference in references]
    if lock is not None:
        path = Path(lock)
        with store.locked(f"lockfile-{hashlib.sha256(str(path.absolute()).encode()).hexdigest()}"):
            before = Lockfile.read(path) if path.exists() else Lockfile()
            before.updated(locked_models(pulled)).write(path)
    return pulled


def _pull(store: ModelStore, reference: Reference, say: _Say, *, show_progress: bool) -> LocalModel:
    places = locations.from_environment()
    say(f"asking the hub for {reference.command_argument}")
    snapshot = hub.resolve(reference.repositories, reference.revision, places.endpoint)
    name = snapshot.name
    if pickled := model_files.pickled_only(snapshot.paths):
        msg = f"{name} has its weights only as pickle ({', '.join(pickled)}), which can run code when it is read"
        hint = (
            "pull a revision with safetensors weights; or convert them where you trust the file, and use `localhf add`"
        )
        raise UnsafeModelError(msg, hint=hint)
    paths = model_files.needed(snapshot.paths)
    with store.locked(name, on_wait=lambda: say(f"waiting for another process that is pulling {name}")):
        current = _current(store, name)
        if current and current.manifest and _is_same(current.manifest, snapshot.commit, paths) and not verify(current):
            say(f"{name} is here already, commit {snapshot.commit[:12]}, all files verified")
            return _with_revision(current, current.manifest, snapshot.revision)
        manifest = Manifest(name=name, source="hub", revision=snapshot.revision, commit=snapshot.commit, files=())
        return _fetch(store, snapshot, paths, manifest, say, show_progress=show_progress)


def _pull_locked(store: ModelStore, entry: LockedModel, say: _Say, *, show_progress: bool) -> LocalModel:
    name = entry.name
    with store.locked(name, on_wait=lambda: say(f"waiting for another process that is pulling {name}")):
        current = _current(store, name)
        if current and current.manifest and current.manifest.hashes == entry.hashes and not verify(current):
            say(f"{name} is here already, byte for byte as locked")
            return current
        if entry.source == "folder":
            msg = (
                f"{name} was added from a folder, so it cannot be pulled, and the store does not hold the locked bytes"
            )
            raise LockfileError(msg, hint=f"add it from the same folder: localhf add PATH --as {name}")
        say(f"asking the hub for {name}@{entry.commit}")
        snapshot = hub.resolve([name], entry.commit, locations.from_environment().endpoint)
        _require_listed(entry, snapshot)
        manifest = Manifest(name=name, source="hub", revision=entry.revision, commit=entry.commit, files=entry.files)
        return _fetch(store, snapshot, list(entry.hashes), manifest, say, show_progress=show_progress)


def _require_listed(entry: LockedModel, snapshot: RemoteSnapshot) -> None:
    """Refuses a lockfile that the hub contradicts, or that names what no model needs, before anything is fetched."""
    paths = list(entry.hashes)
    listed = {file.path: file for file in snapshot.files}
    wrong = [
        file.path
        for file in entry.files
        if file.path not in listed
        or listed[file.path].size_bytes != file.size_bytes
        or listed[file.path].sha256 not in (None, file.sha256)
    ]
    if wrong:
        msg = f"the hub has other files for {entry.name}@{entry.commit} than the lockfile says: {', '.join(wrong)}"
        raise LockfileError(msg, hint="find out who changed the lockfile; `localhf pull --lock FILE` writes it anew")
    if foreign := sorted(set(paths) - set(model_files.needed(paths))):
        msg = f"the lockfile lists files for {entry.name} that are no part of a model: {', '.join(foreign)}"
        raise LockfileError(msg, hint="find out who changed the lockfile; `localhf pull --lock FILE` writes it anew")


def _fetch(
    store: ModelStore,
    snapshot: RemoteSnapshot,
    paths: list[str],
    manifest: Manifest,
    say: _Say,
    *,
    show_progress: bool,
) -> LocalModel:
    places = locations.from_environment()
    name, staged = snapshot.name, store.staging(snapshot.name)
    size, free = formatted_size(snapshot.size_bytes(paths)), formatted_size(free_bytes(staged))
    say(f"pulling {name}, commit {snapshot.commit[:12]}: {len(paths)} files, {size}; {free} free in {store.home}")
    cached = [find_snapshot(name, snapshot.commit, cache) for cache in places.hub_caches]
    hub.download(
        snapshot,
        paths,
        staged,
        endpoint=places.endpoint,
        reuse_from=[store.folder(name), *filter(None, cached)],
        show_progress=show_progress,
    )
    say(f"checking {name}")
    return admit(store, staged, manifest)


def _is_same(manifest: Manifest, commit: str, paths: list[str]) -> bool:
    """Whether a model in the store is what a pull would bring, checked with the libraries that are installed now."""
    if manifest.commit != commit or sorted(manifest.hashes) != paths:
        return False
    if manifest.fingerprint is None or not engines.installed():
        return True
    try:
        return manifest.check is not None and all(
            version(library) == then for library, then in manifest.check.versions.items()
        )
    except PackageNotFoundError:
        return False


def _with_revision(model: LocalModel, manifest: Manifest, revision: str) -> LocalModel:
    """The same model, findable by the revision that was asked for now."""
    if revision in (manifest.revision, manifest.commit):
        return model
    renamed = manifest.model_copy(update={"revision": revision})
    renamed.write(model.folder)
    return LocalModel(model.name, model.folder, renamed)


def _current(store: ModelStore, name: str) -> LocalModel | None:
    try:
        return store.find(name)
    except LockfileError:  # a damaged manifest; what is being pulled now replaces it
        return None


def _select(lockfile: Lockfile, names: Sequence[str], path: Path) -> list[LockedModel]:
    if not names:
        return list(lockfile.models)
    by_name = {entry.name: entry for entry in lockfile.models}
    selected = []
    for name in names:
        reference = Reference.parse_repository(name)
        entry = next((by_name[candidate] for candidate in reference.repositories if candidate in by_name), None)
        if entry is None or reference.revision not in (None, entry.revision, entry.commit):
            msg = f"{path} does not list {reference.command_argument}"
            raise LockfileError(msg, hint=f"add it: localhf pull {reference.command_argument} --lock {path}")
        selected.append(entry)
    return selected


def _reference(name: str) -> Reference:
    reference = Reference.parse(name)
    if reference.folder is not None:
        msg = f"{name!r} is a folder here, and every later use of this name in this place would take the folder"
        raise ModelReferenceError(msg, hint=f"add the folder: localhf add {name} --as NAME; or pull from another place")
    return reference


def _to_stderr(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _quiet(_text: str) -> None:
    """Says nothing."""
