"""What is in the store: bringing in folders, looking, verifying, locking, removing. Nothing here needs a network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.errors import (
    IncompleteModelError,
    LockfileError,
    ModelNotFoundError,
    ModelReferenceError,
    StoreError,
)
from langchain_localhf.provisioning.admission import admit
from langchain_localhf.provisioning.vendoring import local_code, needs_trust
from langchain_localhf.store import files as model_files
from langchain_localhf.store import locations
from langchain_localhf.store.disk import disk_full_named, require_space
from langchain_localhf.store.lockfile import LOCKFILE_NAME, LockedModel, Lockfile
from langchain_localhf.store.manifest import Differences, Manifest, compare
from langchain_localhf.store.model_store import LocalModel, ModelStore, locate
from langchain_localhf.store.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def add(path: str | Path, name: str, *, trust_remote_code: bool = False) -> LocalModel:
    """Copies a model from a folder into the store, with the same checks as `pull`.

    Args:
        path: The model's folder; never changed.
        name: The name to find it by, `org/name` or `name`.
        trust_remote_code: Whether you trust the code of a model that brings its own; it is copied, too, and run to
            check the model. For other models it changes nothing.

    Raises:
        ModelReferenceError: The name cannot be read.
        ModelNotFoundError: There is no such folder.
        IntegrityError: The folder has a manifest, and its files differ from it.
        IncompleteModelError: Files of the model, or of its code, are missing.
        UnsafeModelError: It needs code that is not trusted, or has its weights only as pickle.
        CheckpointError: The model is incomplete, unsafe or unsound; the one in the store stays as it was.
        PullError: The disk is full.
    """
    store, repository = the_store(), _named(name).repositories[0]
    source = Path(path).expanduser()
    if not source.is_dir():
        msg = f"there is no folder at {str(path)!r}"
        raise ModelNotFoundError(msg, looked_in=(str(source.absolute()),), hint="check the path")
    checkpoint, listed = Checkpoint.read(source), Manifest.read(source)
    if listed is not None and listed.packed:
        msg = f"{source} was packed without its weights, so there is nothing to check and to compile"
        raise IncompleteModelError(msg, missing=(), hint="it is ready to use: pass its path as the model's name")
    bring = f"localhf add {path} --as {name} --trust-remote-code"
    commits = listed.commits if listed else None
    checkpoint.require_trust(trust_remote_code=trust_remote_code, commits=commits, bring=bring)
    checkpoint.require_complete()
    if listed is not None and (differences := compare(source, listed)):
        raise differences.as_error(listed)
    places = {found: source / found for found in model_files.needed(checkpoint.files)}
    manifest = Manifest(name=repository, source="folder", files=())
    if trust_remote_code and needs_trust(checkpoint):
        code, origins = local_code(checkpoint, listed, name=repository)
        places |= code
        manifest = manifest.model_copy(update={"trust_remote_code": True, "code": origins})
    with store.locked(repository):
        return admit(store, copied(store, repository, places), manifest)


def copied(store: ModelStore, name: str, places: Mapping[str, Path]) -> Path:
    """A staged folder that holds copies of files, each by the path that it is to have, and nothing else."""
    staged = store.staging(name)
    shutil.rmtree(staged)
    size_bytes = sum(place.stat().st_size for place in places.values())
    staged.mkdir()
    require_space(name, size_bytes, staged)
    with disk_full_named(name, size_bytes, staged):
        for path, place in places.items():
            (staged / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place, staged / path)
    return staged


def models() -> list[LocalModel]:
    """The models in the store, sorted by name."""
    return the_store().models()


def show(model: str) -> LocalModel:
    """The model that a name finds at run time, in the store or elsewhere on this machine.

    Raises:
        ModelReferenceError: The name cannot be read.
        ModelNotFoundError: The model is not on this machine.
    """
    return locate(Reference.parse(model), locations.from_environment())


def verify(model: str | LocalModel) -> Differences:
    """Compares the files of a model with its manifest, every byte, without a network.

    Returns:
        All differences; false if there are none.

    Raises:
        ModelReferenceError: The name cannot be read.
        ModelNotFoundError: The model is not on this machine.
        LockfileError: The model has no manifest to compare with, or it cannot be read.
    """
    found = model if isinstance(model, LocalModel) else show(model)
    if found.manifest is None:
        msg = f"nothing says what {found.folder} should hold: it was neither pulled nor added"
        raise LockfileError(msg, hint=f"bring it into the store: localhf add {found.folder} --as {found.name}")
    return compare(found.folder, found.manifest)


def lock(path: str | Path = LOCKFILE_NAME, names: Sequence[str] = ()) -> list[LocalModel]:
    """Writes a lockfile that lists exactly these models, as they are in the store.

    Args:
        path: The lockfile; one that is there is replaced.
        names: The models; all models in the store if there are none.

    Raises:
        ModelReferenceError: A name cannot be read.
        ModelNotFoundError: A model is not in the store, or the store is empty.
    """
    store = the_store()
    chosen = [_find(store, name) for name in names] or store.models()
    if not chosen:
        msg = f"there are no models in the store {store.home}"
        raise ModelNotFoundError(msg, looked_in=(str(store.home),), hint="bring one: localhf pull MODEL")
    Lockfile.of(locked_models(chosen)).write(Path(path))
    return chosen


def remove(name: str) -> LocalModel:
    """Deletes a model from the store.

    Raises:
        ModelReferenceError: The name cannot be read.
        ModelNotFoundError: The store has no such model.
    """
    store = the_store()
    return store.remove(_find(store, name).name)


def the_store() -> ModelStore:
    """The store that the environment names.

    Raises:
        StoreError: It names none.
    """
    folder = locations.from_environment().store
    if folder is None:
        msg = "there is no place for a store: this user has no home folder, and LOCALHF_HOME is not set"
        raise StoreError(msg, hint="name a folder: export LOCALHF_HOME=/path/to/models")
    return ModelStore(folder)


def locked_models(models: Sequence[LocalModel]) -> list[LockedModel]:
    """What a lockfile says of these models."""
    return [LockedModel.from_manifest(model.manifest) for model in models if model.manifest is not None]


def _named(name: str) -> Reference:
    reference = Reference.parse_repository(name)
    if reference.revision is not None:
        msg = f"{name!r} names a revision, and the store holds one revision of a model at a time"
        raise ModelReferenceError(msg, hint=f"leave it out: {name.partition('@')[0]}")
    return reference


def _find(store: ModelStore, name: str) -> LocalModel:
    """A model of the store, by any of the names that finds it.

    Raises:
        ModelNotFoundError: The store has no such model.
    """
    found = (model for candidate in _named(name).repositories if (model := store.find(candidate)))
    return next(found, None) or store.require(_named(name).repositories[0])
