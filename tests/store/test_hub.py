"""What a download gives, and how it fails; against a real server on this machine."""

from __future__ import annotations

import errno
import hashlib
import os
from http import HTTPStatus
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import huggingface_hub.file_download
import pytest
from huggingface_hub import HfApi, constants
from support.fake_hub import FakeHub, Repository, running_hub

from langchain_localhf.errors import IntegrityError, PullError, UnsafeModelError
from langchain_localhf.store import disk, hub
from langchain_localhf.store.disk import formatted_size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.loopback

ALWAYS = 1_000
WEIGHTS = bytes(range(256)) * 100
FILES = {"config.json": b'{"a": 1}', "1_Pooling/config.json": b"{}", "model.safetensors": WEIGHTS}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with the repository `org/name`."""
    with running_hub(monkeypatch) as running:
        running.repositories["org/name"] = Repository()
        running.repositories["org/name"].commit(FILES)
        yield running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's library waits a second before each of its own attempts; tests need not."""
    monkeypatch.setattr(huggingface_hub.file_download, "time", SimpleNamespace(sleep=lambda _seconds: None))


@pytest.fixture
def into(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def fetch(server: FakeHub, into: Path, paths: Any = tuple(FILES), **settings: Any) -> None:
    """Resolves `org/name` and downloads it."""
    snapshot = hub.resolve(["org/name"], endpoint=server.endpoint)
    hub.download(snapshot, paths, into, endpoint=server.endpoint, **settings)


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_resolve_gives_the_commit_and_every_hash(server: FakeHub) -> None:
    """Weights have their sha256, other files their git blob id, as the hub lists them."""
    snapshot = hub.resolve(["org/name"], endpoint=server.endpoint)
    assert (snapshot.name, snapshot.revision) == ("org/name", "main")
    assert snapshot.commit == server.repositories["org/name"].references["main"]
    by_path = {file.path: file for file in snapshot.files}
    assert by_path["model.safetensors"].sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert by_path["model.safetensors"].size_bytes == len(WEIGHTS)
    # git hash-object: sha1("blob 2\0{}")
    assert by_path["1_Pooling/config.json"].git_sha1 == "9e26dfeeb6e641a33dae4961196235bdb965b21b"
    assert by_path["1_Pooling/config.json"].sha256 is None
    assert server.requests == ["GET /api/models/org/name"]


def test_resolve_tries_the_candidates_in_order(server: FakeHub) -> None:
    """A bare name means the repository of sentence-transformers, and else the one without an organisation."""
    server.repositories["gpt2"] = server.repositories["org/name"]
    assert hub.resolve(["sentence-transformers/gpt2", "gpt2"], endpoint=server.endpoint).name == "gpt2"
    assert server.requests == ["GET /api/models/sentence-transformers/gpt2", "GET /api/models/gpt2"]


def test_resolve_takes_a_branch_a_tag_or_a_commit(server: FakeHub) -> None:
    """Whatever names the commit, the commit is what is used from then on."""
    commit = server.repositories["org/name"].commit({"config.json": b"[]"}, revision="v1/beta")
    assert hub.resolve(["org/name"], "v1/beta", server.endpoint).commit == commit
    assert hub.resolve(["org/name"], commit, server.endpoint).revision == commit


def test_unknown_repository(server: FakeHub) -> None:
    """The hub answers 401 for a repository that is not there; the message does not send the user after tokens only."""
    with pytest.raises(PullError) as caught:
        hub.resolve(["sentence-transformers/nmae", "nmae"], endpoint=server.endpoint)
    assert str(caught.value) == (
        f"there is no sentence-transformers/nmae and no nmae on {server.endpoint}, or it is private\n\n"
        "hint: check the spelling; for a private model, log in with `hf auth login`, or put a token into HF_TOKEN"
    )


def test_unknown_revision(server: FakeHub) -> None:
    """The message names the revision and where to look."""
    with pytest.raises(PullError) as caught:
        hub.resolve(["org/name"], "v9", server.endpoint)
    assert caught.value.message == "org/name@v9 has no such revision"
    assert caught.value.hint == f"see what there is at {server.endpoint}/org/name/tree/main"


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (HTTPStatus.FORBIDDEN, "the token is missing, wrong, or may not read this model"),
        (HTTPStatus.NOT_FOUND, "run the same command again"),
        (HTTPStatus.SERVICE_UNAVAILABLE, "run the same command again"),
    ],
)
def test_refusals_are_named(server: FakeHub, status: HTTPStatus, hint: str) -> None:
    """What the hub answered is in the message."""
    server.status = status
    with pytest.raises(PullError, match=f"answered {status.value} {status.phrase}") as caught:
        hub.resolve(["org/name"], endpoint=server.endpoint)
    assert hint in str(caught.value.hint)


def test_gated_repository_needs_a_token(server: FakeHub, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says where to accept the terms and where a token is read; it never holds the token."""
    server.repositories["org/name"].gated, server.token = True, "hf_right"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(PullError) as caught:
        fetch(server, into)
    assert str(caught.value) == (
        "org/name is gated: its authors want to know who uses it\n\n"
        f"hint: accept its terms at {server.endpoint}/org/name, then log in with `hf auth login`, "
        "or put a token into HF_TOKEN"
    )
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    fetch(server, into)
    assert contents(into) == FILES
    assert server.tokens["localhost"] == {""}, "the token left the hub for the storage host"


def test_repository_whose_listing_is_gated(server: FakeHub) -> None:
    """Gated is not the same as missing, though the hub's library derives the one error from the other."""
    server.status, server.error_code = HTTPStatus.FORBIDDEN, "GatedRepo"
    with pytest.raises(PullError, match="org/name@v1 is gated"):
        hub.resolve(["org/name", "name"], "v1", server.endpoint)
    assert len(server.requests) == 1


def test_offline_environment(server: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_HUB_OFFLINE wins over pull, and is named."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PullError, match="the hub is switched off by HF_HUB_OFFLINE") as caught:
        hub.resolve(["org/name"], endpoint=server.endpoint)
    assert caught.value.hint == "unset HF_HUB_OFFLINE for this one command"
    assert server.requests == []


@pytest.mark.usefixtures("server")  # which also keeps the hub's library from asking elsewhere
def test_unreachable_hub() -> None:
    """The address and the reason are in the message."""
    with pytest.raises(PullError, match=r"could not be downloaded from http://127\.0\.0\.1:9: .*refused") as caught:
        hub.resolve(["org/name"], endpoint="http://127.0.0.1:9/")
    assert "HF_ENDPOINT" in str(caught.value.hint)


def test_download_gives_exactly_the_files_that_were_asked_for(server: FakeHub, into: Path) -> None:
    """A name with glob characters is one file; what an earlier pull left behind is gone."""
    files = {"a[1].json": b"one", "a1.json": b"other", **FILES}
    server.repositories["org/name"].commit(files)
    (into / "old.txt").write_text("of another commit")
    (into / ".cache").mkdir()
    (into / ".cache" / "model.incomplete").write_bytes(WEIGHTS)
    fetch(server, into, ["a[1].json", "config.json"])
    assert contents(into) == {"a[1].json": b"one", "config.json": FILES["config.json"]}
    assert not (into / ".cache").exists()


def test_finished_files_are_not_fetched_again(server: FakeHub, into: Path) -> None:
    """Only what is missing or wrong is asked for."""
    (into / "model.safetensors").write_bytes(WEIGHTS)
    (into / "config.json").write_bytes(b'{"a": 2}')  # the right size
    fetch(server, into)
    assert server.fetched() == ["1_Pooling/config.json", "config.json"]
    assert contents(into) == FILES


def test_files_in_other_folders_are_reused_if_their_hash_is_right(server: FakeHub, into: Path, tmp_path: Path) -> None:
    """A model that is in the Hugging Face cache, or at another commit in the store, costs no second download."""
    for name, content in (("old", WEIGHTS[::-1]), ("cache", WEIGHTS)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(content)
    fetch(server, into, reuse_from=[tmp_path / "old", tmp_path / "nowhere", tmp_path / "cache"])
    assert server.fetched() == ["1_Pooling/config.json", "config.json"]
    assert contents(into) == FILES


@pytest.mark.usefixtures("impatient")
def test_connection_cut_once(server: FakeHub, into: Path) -> None:
    """The rest of the file is fetched, and the whole has the right hash."""
    server.cut["model.safetensors"] = 1
    fetch(server, into)
    assert contents(into) == FILES
    assert server.fetched().count("model.safetensors") == 2


@pytest.mark.usefixtures("impatient")
def test_connection_cut_always(server: FakeHub, into: Path) -> None:
    """The reason is named, what had arrived is kept, and the next pull goes on there."""
    server.cut_at_once["model.safetensors"] = ALWAYS
    with pytest.raises(PullError, match="peer closed connection") as caught:
        fetch(server, into)
    assert "finished files are kept" in str(caught.value.hint)
    server.cut_at_once.clear()
    server.requests.clear()
    fetch(server, into)
    assert contents(into) == FILES
    assert "model.safetensors" in server.fetched()


def test_wrong_bytes_once(server: FakeHub, into: Path) -> None:
    """A file of the right size with the wrong hash is fetched once more, alone."""
    server.corrupt["model.safetensors"] = 1
    fetch(server, into)
    assert contents(into) == FILES
    assert server.fetched() == sorted([*FILES, "model.safetensors"])


@pytest.mark.parametrize(("path", "kind"), [("model.safetensors", "sha256"), ("config.json", "git sha1")])
def test_wrong_bytes_always(server: FakeHub, into: Path, path: str, kind: str) -> None:
    """The error says what was expected and what came; the bad file is deleted, the good ones are kept."""
    server.corrupt[path] = ALWAYS
    with pytest.raises(IntegrityError) as caught:
        fetch(server, into)
    size = len(FILES[path])
    assert caught.value.message.startswith("1 of the files of org/name arrived with wrong bytes, twice:\n")
    assert f"{path}: expected {size} bytes with {kind} " in caught.value.message
    assert f", got {size} bytes with {kind} " in caught.value.message
    assert caught.value.changed == (path,)
    assert path not in contents(into)
    assert server.fetched().count(path) == 2


def test_file_that_does_not_arrive(server: FakeHub, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the hub's library says it did is not believed."""
    monkeypatch.setattr(hub, "snapshot_download", lambda *_args, **_settings: str(into))
    with pytest.raises(IntegrityError, match=r"config\.json: did not arrive") as caught:
        fetch(server, into, ["config.json"])
    assert caught.value.changed == ("config.json",)


def test_too_small_a_disk(server: FakeHub, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes are added up before anything is fetched."""
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=20_000))
    with pytest.raises(PullError) as caught:
        fetch(server, into)
    assert caught.value.message == f"org/name needs 25.6 kB, 20.0 kB free in {into}"
    assert "LOCALHF_HOME" in str(caught.value.hint)
    assert server.fetched() == []
    assert contents(into) == {}


def test_disk_that_fills_up(server: FakeHub, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words as before the download."""
    write = huggingface_hub.file_download.http_get

    def full(url: str, *args: Any, **kwargs: Any) -> None:
        if "model.safetensors" in url:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(url, *args, **kwargs)

    monkeypatch.setattr(huggingface_hub.file_download, "http_get", full)
    monkeypatch.setattr(disk, "free_bytes", lambda _folder: 50_000)
    with pytest.raises(PullError) as caught:
        fetch(server, into)
    assert caught.value.message == f"org/name needs 25.6 kB, 50.0 kB free in {into}"
    assert "model.safetensors" not in contents(into)


def test_folder_that_may_not_be_written(server: FakeHub, into: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every failed download is the network's fault."""

    def denied(*_args: Any, **_kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(into / "config.json"))

    monkeypatch.setattr(hub, "snapshot_download", denied)
    with pytest.raises(PullError) as caught:
        fetch(server, into)
    assert caught.value.message == f"org/name cannot be stored: Permission denied: {into / 'config.json'}"


def test_file_outside_of_the_repository(server: FakeHub) -> None:
    """A listing cannot make a pull write elsewhere."""
    server.repositories["org/name"].commit({"../../.bashrc.json": b"{}"})
    with pytest.raises(UnsafeModelError, match="lists a file outside of itself"):
        hub.resolve(["org/name"], endpoint=server.endpoint)


@pytest.mark.parametrize(
    ("sha", "size", "blob_id", "message"),
    [
        (None, 2, "9e26dfee", "names no commit for org/name"),
        ("c" * 40, None, "9e26dfee", "lists no size and no hash for config.json"),
        ("c" * 40, 2, None, "lists no size and no hash for config.json"),
    ],
)
def test_listing_that_cannot_be_verified(
    monkeypatch: pytest.MonkeyPatch, sha: str | None, size: int | None, blob_id: str | None, message: str
) -> None:
    """A mirror that leaves the hashes out is refused."""
    sibling = SimpleNamespace(rfilename="config.json", size=size, blob_id=blob_id, lfs=None)
    monkeypatch.setattr(HfApi, "model_info", lambda *_, **__: SimpleNamespace(sha=sha, siblings=[sibling]))
    with pytest.raises(PullError, match=message):
        hub.resolve(["org/name"], endpoint="http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (90_888_945, "90.9 MB"), (999_960, "1.0 MB"), (22e14, "2200.0 TB")],
)
def test_formatted_size(size_bytes: float, text: str) -> None:
    """Sizes are in the units that disks are sold in."""
    assert formatted_size(size_bytes) == text
