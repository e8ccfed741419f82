"""Pulling what a lockfile says: the same bytes from the same commits of the same repositories, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_localhf.checkpoint import code as checkpoint_code
from langchain_localhf.errors import LockfileError, UnsafeModelError
from langchain_localhf.provisioning.inventory import verify
from langchain_localhf.provisioning.transfer import Plan, part_of
from langchain_localhf.store import files as model_files
from langchain_localhf.store.manifest import Manifest
from langchain_localhf.store.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_localhf.provisioning.transfer import Part, Transfer
    from langchain_localhf.store.lockfile import LockedModel, Lockfile
    from langchain_localhf.store.model_store import LocalModel

_WHO_CHANGED_IT = "find out who changed the lockfile; `localhf pull --lock FILE` writes it anew"


def select(lockfile: Lockfile, names: Sequence[str], path: Path) -> list[LockedModel]:
    """The models of a lockfile that have these names; all of them if there are none.

    Raises:
        ModelReferenceError: A name cannot be read.
        LockfileError: The lockfile does not list a model.
    """
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


def require_trust(entries: Sequence[LockedModel], *, trusted: bool) -> None:
    """Refuses models that are locked with trust in their code, unless the user states it, too.

    A lockfile comes with a project, from whoever wrote that; a file of data must not be enough to run code here.

    Raises:
        UnsafeModelError: There is such a model.
    """
    needing = [entry for entry in entries if entry.trust_remote_code]
    if trusted or not needing:
        return
    lines = "".join(
        f"\n  {entry.name}: {', '.join(f'{name} at commit {commit}' for name, commit in _origins(entry))}"
        for entry in needing
    )
    msg = f"the lockfile trusts code that comes with models, and this command does not say so, too:{lines}"
    hint = "read that code; if you trust it, too: localhf pull --locked --trust-remote-code"
    raise UnsafeModelError(msg, hint=hint)


def pull_locked(transfer: Transfer, entry: LockedModel) -> LocalModel:
    """Makes the store hold the bytes that a lockfile says.

    Raises:
        LockfileError: They cannot be had: the hub has others, or the model was added from a folder.
        PullError: The network, the hub or the disk stands in the way.
        IntegrityError: Files arrived with wrong bytes.
        CheckpointError: The model is incomplete, unsafe or unsound.
    """
    name = entry.name
    with transfer.store.locked(name, on_wait=lambda: transfer.say_waiting(name)):
        current = transfer.current(name)
        if current and _is_locked(current, entry):
            transfer.say(f"{name} is here already, byte for byte as locked")
            return current
        if current:
            transfer.say(f"{name} is here with other bytes than the locked ones")
        if entry.source == "folder":
            msg = (
                f"{name} was added from a folder, so it cannot be pulled, and the store does not hold the locked bytes"
            )
            trust = " --trust-remote-code" if entry.trust_remote_code else ""
            raise LockfileError(msg, hint=f"add it from the same folder: localhf add{trust} PATH --as {name}")
        plan = _plan(transfer, entry)
        manifest = Manifest(
            name=name,
            source="hub",
            revision=entry.revision,
            commit=entry.commit,
            trust_remote_code=entry.trust_remote_code,
            code=entry.code,
            files=entry.files,
        )
        return transfer.bring(plan, manifest)


def _is_locked(model: LocalModel, entry: LockedModel) -> bool:
    manifest = model.manifest
    return manifest is not None and not manifest.packed and manifest.hashes == entry.hashes and not verify(model)


def _plan(transfer: Transfer, entry: LockedModel) -> Plan:
    """What is to be brought, after the hub was asked for each repository and nothing was fetched.

    Raises:
        LockfileError: The hub contradicts the lockfile, or the lockfile names what no model needs.
    """
    folders = {checkpoint_code.vendored_folder(origin.repository): origin for origin in entry.code}
    by_folder: dict[str, list[str]] = {"": [], **{folder: [] for folder in folders}}
    for path in entry.hashes:
        folder = next((folder for folder in folders if path.startswith(folder)), "")
        by_folder[folder].append(path)
    own = by_folder.pop("")
    transfer.say(f"asking the hub for {entry.name}@{entry.commit}")
    model = part_of(transfer.resolve(entry.name, entry.commit), own, repository="")
    _require_listed(entry, model)
    code = []
    for folder, origin in folders.items():
        snapshot = transfer.resolve(origin.repository, origin.commit)
        paths = [path.removeprefix(folder) for path in by_folder[folder]]
        code.append(part_of(snapshot, paths, repository=origin.repository))
        _require_listed(entry, code[-1])
    _require_model_files(entry, own, [path for paths in by_folder.values() for path in paths])
    return Plan(model, tuple(code), trusted=entry.trust_remote_code)


def _require_model_files(entry: LockedModel, own: Sequence[str], vendored: Sequence[str]) -> None:
    foreign = set(own) - set(model_files.needed(own))
    if entry.trust_remote_code:
        foreign = {path for path in foreign if not model_files.is_code(path)}
    foreign.update(path for path in vendored if not model_files.is_code(path))
    if foreign:
        msg = f"the lockfile lists files for {entry.name} that are no part of a model: {', '.join(sorted(foreign))}"
        raise LockfileError(msg, hint=_WHO_CHANGED_IT)


def _require_listed(entry: LockedModel, part: Part) -> None:
    listed = {part.folder + file.path: file for file in part.snapshot.files}
    wanted = {part.folder + path for path in part.paths}
    wrong = [
        file.path
        for file in entry.files
        if file.path in wanted
        and (
            file.path not in listed
            or listed[file.path].size_bytes != file.size_bytes
            or listed[file.path].sha256 not in (None, file.sha256)
        )
    ]
    if wrong:
        where = f"{part.snapshot.name}@{part.snapshot.commit}"
        msg = f"the hub has other files for {where} than the lockfile says: {', '.join(wrong)}"
        raise LockfileError(msg, hint=_WHO_CHANGED_IT)


def _origins(entry: LockedModel) -> list[tuple[str, str]]:
    others = [(origin.repository, origin.commit or "-") for origin in entry.code]
    has_own = not others or any(_is_own_code(path) for path in entry.hashes)
    return [(entry.name, entry.commit or "-")] * has_own + others


def _is_own_code(path: str) -> bool:
    return model_files.is_code(path) and not checkpoint_code.repository_of(path)[0]
