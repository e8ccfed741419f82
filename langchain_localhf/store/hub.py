"""The hub: the only module that downloads, and only because someone called `pull`.

It speaks to the hub through huggingface_hub's public functions and believes nothing that arrives: that library compares
sizes only, so every file is hashed here and compared with what the hub's own listing says.
"""

from __future__ import annotations

import contextlib
import glob
import shutil
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm  # type: ignore[import-untyped]

from langchain_localhf.errors import IntegrityError, LocalHFError, PullError, UnsafeModelError
from langchain_localhf.store.disk import disk_full_named, is_disk_full, require_space
from langchain_localhf.store.files import files_in
from langchain_localhf.store.plain_data import RelativePath
from langchain_localhf.store.snapshot import RemoteFile, RemoteSnapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from huggingface_hub.hf_api import RepoSibling

DEFAULT_REVISION = "main"

_ATTEMPTS = 2
_LISTING_TIMEOUT_SECONDS = 30
_LOG_IN = "log in with `hf auth login`, or put a token into HF_TOKEN"
_TRY_AGAIN = (
    "check the network and the address in HF_ENDPOINT, then run the same command again; finished files are kept"
)
_OTHER_HUB = "use a hub that does: unset HF_ENDPOINT"
_RELATIVE_PATH = TypeAdapter(RelativePath)
_EXPLANATIONS: tuple[tuple[type[Exception], str, str], ...] = (
    (
        OfflineModeIsEnabled,
        "{name} cannot be pulled: the hub is switched off by HF_HUB_OFFLINE",
        "unset HF_HUB_OFFLINE for this one command",
    ),
    (
        GatedRepoError,
        "{name} is gated: its authors want to know who uses it",
        "accept its terms at {page}, then " + _LOG_IN,
    ),
    (
        RepositoryNotFoundError,
        "there is no {name} on {address}, or it is private",
        "check the spelling; for a private model, " + _LOG_IN,
    ),
    (RevisionNotFoundError, "{name} has no such revision", "see what there is at {page}/tree/main"),
)


def resolve(repositories: Sequence[str], revision: str | None = None, endpoint: str | None = None) -> RemoteSnapshot:
    """Asks the hub which commit a name stands for now, and which files it holds. One request a candidate.

    Args:
        repositories: The repositories that the name can mean, in the order to try them.
        revision: A branch, tag or commit; None for `main`.
        endpoint: The address of the hub; None for huggingface.co.

    Raises:
        PullError: None of them is there, or the hub cannot be reached, or it lists no hashes.
        UnsafeModelError: A file of the repository lies outside of it.
    """
    address = _address(endpoint)
    api = HfApi(endpoint=address, library_name="langchain-localhf")
    *candidates, last = repositories
    for name in candidates:
        with contextlib.suppress(_AbsentError):
            return _listing(api, name, revision, address)
    try:
        return _listing(api, last, revision, address)
    except _AbsentError as error:
        raise _as_pull_error(error, " and no ".join(repositories), address) from error.__cause__


class _AbsentError(Exception):
    """The hub has no such repository, or does not show it."""


def _listing(api: HfApi, name: str, revision: str | None, address: str) -> RemoteSnapshot:
    with _explained(f"{name}@{revision}" if revision else name, address):
        try:
            info = api.model_info(name, revision=revision, files_metadata=True, timeout=_LISTING_TIMEOUT_SECONDS)
        except GatedRepoError:
            raise
        except RepositoryNotFoundError as error:
            raise _AbsentError from error
    if info.sha is None:
        msg = f"{address} names no commit for {name}"
        raise PullError(msg, hint=_OTHER_HUB)
    files = tuple(_remote_file(name, sibling, address) for sibling in info.siblings or ())
    return RemoteSnapshot(name, revision or DEFAULT_REVISION, info.sha, files)


def download(
    snapshot: RemoteSnapshot,
    paths: Iterable[str],
    into: Path,
    *,
    endpoint: str | None = None,
    reuse_from: Iterable[Path] = (),
    show_progress: bool = False,
) -> None:
    """Makes `into` hold the files at `paths` of a snapshot, every one with the hash that the hub lists, and no other.

    A file that is already there is not fetched again, so that a pull that was killed goes on where it was. A file
    with wrong bytes is deleted and fetched once more.

    Args:
        snapshot: What `resolve` gave.
        paths: The files that are needed.
        into: The folder; it must be there.
        endpoint: The address of the hub; None for huggingface.co.
        reuse_from: Folders that may hold some of the files; a file with the right hash is copied.
        show_progress: Whether to show progress bars on stderr.

    Raises:
        PullError: The disk is too small, or the hub cannot be reached or refuses; what has arrived is kept.
        IntegrityError: A file arrived with wrong bytes, twice.
    """
    wanted = set(paths)
    _delete_all_but(wanted, into)
    files = [file for file in snapshot.files if file.path in wanted and not file.is_in(into)]
    size_bytes = sum(file.size_bytes for file in files)
    require_space(snapshot.name, size_bytes, into)
    with disk_full_named(snapshot.name, size_bytes, into):
        files = [file for file in files if not _copied(file, reuse_from, into)]
        wrong: dict[str, str] = {}
        for _ in range(_ATTEMPTS):
            if files:
                _fetch(snapshot, files, into, _address(endpoint), show_progress=show_progress)
            files = [file for file in files if not file.is_in(into)]
            wrong = {file.path: _discard(file, into) for file in files}
    if wrong:
        raise _wrong_bytes(snapshot, wrong)
    shutil.rmtree(into / ".cache", ignore_errors=True)


def _fetch(snapshot: RemoteSnapshot, files: list[RemoteFile], into: Path, address: str, *, show_progress: bool) -> None:
    with _explained(snapshot.name, address):
        snapshot_download(
            snapshot.name,
            revision=snapshot.commit,
            local_dir=into,
            cache_dir=into / ".cache" / "hub",  # else unverified files could come from the user's own cache
            allow_patterns=[glob.escape(file.path) for file in files],
            endpoint=address,
            tqdm_class=None if show_progress else _NoProgress,
            library_name="langchain-localhf",
        )


class _NoProgress(tqdm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - whatever the hub's library asks of a bar
        super().__init__(*args, **{**kwargs, "disable": True})


def _remote_file(name: str, sibling: RepoSibling, address: str) -> RemoteFile:
    path = sibling.rfilename
    try:
        _RELATIVE_PATH.validate_python(path)
    except ValidationError as error:
        msg = f"{name} lists a file outside of itself: {path!r}"
        raise UnsafeModelError(msg, hint="do not use this model") from error
    size_bytes = sibling.lfs.size if sibling.lfs else sibling.size
    if size_bytes is None or sibling.blob_id is None:
        msg = f"{address} lists no size and no hash for {path} of {name}, so nothing could be verified"
        raise PullError(msg, hint=_OTHER_HUB)
    return RemoteFile(path, size_bytes, sibling.blob_id, sibling.lfs.sha256 if sibling.lfs else None)


def _delete_all_but(paths: set[str], folder: Path) -> None:
    """Clears what an earlier pull, of another commit or killed in the middle, left in `folder`."""
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    for path in files_in(folder):
        if path not in paths:
            (folder / path).unlink()


def _copied(file: RemoteFile, folders: Iterable[Path], into: Path) -> bool:
    source = next((folder for folder in folders if file.is_in(folder)), None)
    if source is None:
        return False
    (into / file.path).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / file.path, into / file.path)
    return file.is_in(into)


def _discard(file: RemoteFile, folder: Path) -> str:
    """Deletes a wrong file; what was wrong with it, for the message."""
    path = folder / file.path
    if not path.is_file():
        return f"{file.path}: did not arrive"
    actual = file.actual_hash(folder)
    size_bytes = path.stat().st_size
    path.unlink()
    return (
        f"{file.path}: expected {file.size_bytes} bytes with {file.expected_hash}, got {size_bytes} bytes with {actual}"
    )


def _wrong_bytes(snapshot: RemoteSnapshot, wrong: dict[str, str]) -> IntegrityError:
    lines = "".join(f"\n  {line}" for line in wrong.values())
    msg = f"{len(wrong)} of the files of {snapshot.name} arrived with wrong bytes, twice:{lines}"
    hint = "something between here and the hub changes files: a proxy, a mirror, a failing disk; try another network"
    return IntegrityError(msg, changed=sorted(wrong), hint=hint)


def _address(endpoint: str | None) -> str:
    return (endpoint or constants.ENDPOINT).rstrip("/")


@contextlib.contextmanager
def _explained(name: str, address: str) -> Iterator[None]:
    try:
        yield
    except (LocalHFError, _AbsentError):
        raise
    except Exception as error:
        # Which classes arrive here depends on the version of the hub's library, its HTTP library, and its Rust part.
        if is_disk_full(error):
            raise
        raise _as_pull_error(error, name, address) from error


def _as_pull_error(error: BaseException, name: str, address: str) -> PullError:
    """The most telling error of a chain of causes, in plain words. None of them holds the token."""
    repository = name.partition("@")[0]
    chain = [error]
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) is not None and deeper not in chain:
        chain.append(deeper)
    for cause in chain:
        for kind, message, hint in _EXPLANATIONS:
            if isinstance(cause, kind):
                return PullError(
                    message.format(name=name, address=address), hint=hint.format(page=f"{address}/{repository}")
                )
        if isinstance(cause, HfHubHTTPError):
            return _refused(cause, name, address)
        if isinstance(cause, OSError) and cause.filename is not None and cause.errno is not None:
            msg = f"{name} cannot be stored: {cause.strerror}: {cause.filename}"
            return PullError(msg, hint="check who owns the folder, or set LOCALHF_HOME to one that you may write to")
    reason = str(chain[-1]) or type(chain[-1]).__name__
    return PullError(f"{name} could not be downloaded from {address}: {reason}", hint=_TRY_AGAIN)


def _refused(error: HfHubHTTPError, name: str, address: str) -> PullError:
    status = error.response.status_code
    msg = f"{name} could not be downloaded: {address} answered {status} {error.response.reason_phrase}"
    if status in {401, 403}:
        return PullError(msg, hint=f"the token is missing, wrong, or may not read this model; {_LOG_IN}")
    return PullError(msg, hint=_TRY_AGAIN)
