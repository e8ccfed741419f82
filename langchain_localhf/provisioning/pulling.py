"""From the hub into the store."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_localhf import engines
from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.errors import ModelReferenceError, UnsafeModelError
from langchain_localhf.provisioning.inventory import locked_models, the_store, verify
from langchain_localhf.provisioning.locked import pull_locked, require_trust, select
from langchain_localhf.provisioning.transfer import Transfer
from langchain_localhf.provisioning.vendoring import needs_trust, plan
from langchain_localhf.store import files as model_files
from langchain_localhf.store import hub, locations
from langchain_localhf.store.lockfile import LOCKFILE_NAME, Lockfile
from langchain_localhf.store.manifest import CodeOrigin, Manifest
from langchain_localhf.store.model_store import LocalModel
from langchain_localhf.store.reference import Reference

if TYPE_CHECKING:
    from langchain_localhf.store.snapshot import RemoteSnapshot


def pull(
    *models: str,
    lock: str | Path | None = None,
    locked: bool = False,
    trust_remote_code: bool = False,
    show_progress: bool = False,
) -> list[LocalModel]:
    """Downloads models, verifies and checks them, and puts them into the store.

    What is there already and intact is not fetched again, and a pull that was killed goes on where it was.

    Args:
        models: `org/name`, `name`, or either with `@revision`.
        lock: A lockfile. It is updated with these models, or, with `locked`, obeyed.
        locked: Whether to bring exactly what the lockfile says, byte for byte, and to leave it as it is; all of its
            models if none is named. The lockfile is `localhf.lock` unless `lock` names another.
        trust_remote_code: Whether you trust the code of those models that bring their own: it is downloaded with the
            model, from whatever repositories it lies in, and run to check the model. For other models it changes
            nothing. With `locked` it covers the code that the lockfile lists, and must be stated all the same.
        show_progress: Whether to say on stderr what happens, with progress bars.

    Returns:
        The models, in the order in which they were named.

    Raises:
        ModelReferenceError: A name cannot be read.
        PullError: The network, the hub or the disk stands in the way.
        IntegrityError: Files arrived with wrong bytes.
        UnsafeModelError: A model needs code that is not trusted, or has its weights only as pickle.
        CheckpointError: A model is incomplete, unsafe or unsound; the one in the store stays as it was.
        LockfileError: The lockfile cannot be read, or the hub does not have what it says.
    """
    transfer = Transfer(the_store(), locations.from_environment(), show_progress)
    if locked:
        path = Path(lock or LOCKFILE_NAME)
        wanted = select(Lockfile.read(path), models, path)
        require_trust(wanted, trusted=trust_remote_code)
        return [pull_locked(transfer, entry) for entry in wanted]
    if not models:
        msg = "no model was named"
        raise ModelReferenceError(msg, hint="name one, such as `localhf pull sentence-transformers/all-MiniLM-L6-v2`")
    references = [_reference(name) for name in models]
    pulled = [_pull(transfer, reference, trusted=trust_remote_code) for reference in references]
    if lock is not None:
        path = Path(lock)
        with transfer.store.locked(f"lockfile-{hashlib.sha256(str(path.absolute()).encode()).hexdigest()}"):
            before = Lockfile.read(path) if path.exists() else Lockfile()
            before.updated(locked_models(pulled)).write(path)
    return pulled


def _pull(transfer: Transfer, reference: Reference, *, trusted: bool) -> LocalModel:
    transfer.say(f"asking the hub for {reference.command_argument}")
    snapshot = hub.resolve(reference.repositories, reference.revision, transfer.places.endpoint)
    name, store = snapshot.name, transfer.store
    if pickled := model_files.pickled_only(snapshot.paths):
        msg = f"{name} has its weights only as pickle ({', '.join(pickled)}), which can run code when it is read"
        hint = (
            "pull a revision with safetensors weights; or convert them where you trust the file, and use `localhf add`"
        )
        raise UnsafeModelError(msg, hint=hint)
    with store.locked(name, on_wait=lambda: transfer.say_waiting(name)):
        current = transfer.current(name)
        if current and current.manifest and _is_same(current, current.manifest, snapshot, trusted=trusted):
            transfer.say(f"{name} is here already, commit {snapshot.commit[:12]}, all files verified")
            return _with_revision(current, current.manifest, snapshot.revision)
        pins = current.manifest.commits if current and current.manifest else {}
        # The same commit gives the same vectors, so its code stays; a new commit is brought with the code of today.
        brought = _bring(transfer, snapshot, trusted=trusted, pins=pins if pins.get("") == snapshot.commit else {})
        if current and current.manifest and current.manifest.compiled:
            transfer.say(f"note: what was compiled from the old files of {name} is gone; localhf compile {name}")
        return brought


def _bring(transfer: Transfer, snapshot: RemoteSnapshot, *, trusted: bool, pins: dict[str, str]) -> LocalModel:
    with transfer.store.reading_room(snapshot.name) as room:
        transfer.require_room(snapshot, model_files.needed(snapshot.paths))
        wanted = plan(transfer, snapshot, room, trusted=trusted, pins=pins)
        manifest = Manifest(
            name=snapshot.name,
            source="hub",
            revision=snapshot.revision,
            commit=snapshot.commit,
            trust_remote_code=wanted.trusted,
            code=tuple(CodeOrigin(repository=part.snapshot.name, commit=part.snapshot.commit) for part in wanted.code),
            files=(),
        )
        return transfer.bring(wanted, manifest, room=room)


def _is_same(model: LocalModel, manifest: Manifest, snapshot: RemoteSnapshot, *, trusted: bool) -> bool:
    """Whether a model in the store is what a pull would bring, checked with the libraries that are installed now."""
    paths = [path for path in manifest.hashes if not model_files.is_code(path)]
    if (
        manifest.packed
        or manifest.commit != snapshot.commit
        or paths != model_files.needed(snapshot.paths)
        or verify(model)
    ):
        return False
    if manifest.trust_remote_code != (trusted and needs_trust(Checkpoint.read(model.folder))):
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


def _reference(name: str) -> Reference:
    reference = Reference.parse(name)
    if reference.folder is not None:
        msg = f"{name!r} is a folder here, and every later use of this name in this place would take the folder"
        raise ModelReferenceError(msg, hint=f"add the folder: localhf add {name} --as NAME; or pull from another place")
    return reference
