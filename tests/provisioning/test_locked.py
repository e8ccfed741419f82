"""A lockfile brings the same bytes, or nothing."""

from __future__ import annotations

import shutil
import tomllib
from typing import TYPE_CHECKING

import pytest
from support import checkpoints
from support.fake_hub import TINY as NAME
from support.fake_hub import FakeHub
from support.folders import files

import langchain_localhf
from langchain_localhf import provisioning
from langchain_localhf.errors import (
    IntegrityError,
    LockfileError,
    ModelNotFoundError,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.loopback


@pytest.mark.usefixtures("unchecked")
def test_locked_pull_reproduces_the_store(hub: FakeHub, tiny: Path, tmp_path: Path, store_home: Path) -> None:
    """Another machine, a branch that has moved on: the same bytes, and a lockfile of them is the same text."""
    lock = tmp_path / "localhf.lock"
    hub.upload("org/second", tiny)
    langchain_localhf.pull(NAME, lock=lock)
    langchain_localhf.pull("org/second@main", lock=lock)
    text, before = lock.read_text(), files(store_home / NAME)
    assert [model["name"] for model in tomllib.loads(text)["models"]] == ["org/second", NAME]
    (tiny / "README.md").write_text("moved on")
    hub.upload(NAME, tiny)
    shutil.rmtree(store_home)
    pulled = langchain_localhf.pull(lock=lock, locked=True)
    assert [model.name for model in pulled] == ["org/second", NAME]
    assert files(store_home / NAME) == before
    assert lock.read_text() == text
    provisioning.lock(tmp_path / "again.lock")
    assert (tmp_path / "again.lock").read_text() == text
    hub.requests.clear()
    langchain_localhf.pull(lock=lock, locked=True)
    assert hub.requests == [], "identical bytes need no network"


@pytest.mark.usefixtures("unchecked")
def test_locked_pull_of_some(hub: FakeHub, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are named as everywhere; `localhf.lock` is the default."""
    monkeypatch.chdir(tmp_path)
    hub.upload("org/second", tiny)
    langchain_localhf.pull(NAME, "org/second", lock="localhf.lock")
    provisioning.remove(NAME)
    provisioning.remove("org/second")
    assert [model.name for model in langchain_localhf.pull("tiny", locked=True)] == [NAME]
    assert [model.name for model in provisioning.models()] == [NAME]
    with pytest.raises(LockfileError) as caught:
        langchain_localhf.pull("org/third@v2", locked=True)
    assert caught.value.message == "localhf.lock does not list org/third@v2"
    assert caught.value.hint == "add it: localhf pull org/third@v2 --lock localhf.lock"
    with pytest.raises(LockfileError, match="does not list tiny@v2"):
        langchain_localhf.pull("tiny@v2", locked=True)


@pytest.mark.usefixtures("unchecked")
def test_locked_pull_of_changed_bytes(
    hub: FakeHub, tmp_path: Path, store_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is here is compared with the lockfile before the hub is asked, and the difference is said."""
    lock = tmp_path / "localhf.lock"
    langchain_localhf.pull(NAME, lock=lock)
    before = files(store_home / NAME)
    checkpoints.flip_byte(store_home / NAME / "model.safetensors")
    capsys.readouterr()
    langchain_localhf.pull(lock=lock, locked=True, show_progress=True)
    here, asked, *_ = capsys.readouterr().err.splitlines()
    assert here == f"{NAME} is here with other bytes than the locked ones"
    assert asked.startswith("asking the hub for ")
    assert files(store_home / NAME) == before


@pytest.mark.parametrize(
    ("path", "old", "new", "message"),
    [
        ("model.safetensors", "sha256 = ", 'sha256 = "', "the hub has other files for"),
        ("config.json", "sha256 = ", 'sha256 = "', "files of sentence-transformers/tiny are not those"),
        ("config.json", "size_bytes = ", "size_bytes = 1", "the hub has other files for"),
        ("config.json", "path", 'path = "aaa.json"', "the hub has other files for"),
        ("README.md", "path", 'path = "README.py"', "the hub has other files for"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_tampered_lockfile(
    hub: FakeHub, tmp_path: Path, store_home: Path, path: str, old: str, new: str, message: str
) -> None:
    """One changed digit, and nothing reaches the store; the lockfile stays as it is."""
    lock = tmp_path / "localhf.lock"
    langchain_localhf.pull(NAME, lock=lock)
    provisioning.remove(NAME)
    head, mark, tail = lock.read_text().partition(f'path = "{path}"\n')
    lines = (mark + tail).splitlines(keepends=True)
    index = next(index for index, line in enumerate(lines) if line.startswith(old))
    if old == "sha256 = ":
        lines[index] = f'sha256 = "{"0" * 64}"\n'
    else:
        lines[index] = f"{new}\n"
    lock.write_text(head + "".join(lines))
    text = lock.read_text()
    with pytest.raises((LockfileError, IntegrityError), match=message):
        langchain_localhf.pull(lock=lock, locked=True)
    assert not (store_home / NAME).exists()
    assert lock.read_text() == text
    assert hub.requests != []


@pytest.mark.usefixtures("unchecked")
def test_lockfile_that_lists_code(hub: FakeHub, tiny: Path, tmp_path: Path) -> None:
    """A lockfile cannot smuggle in what a pull would never bring."""
    lock = tmp_path / "localhf.lock"
    (tiny / "README.md").write_text("print()")
    hub.upload(NAME, tiny)
    langchain_localhf.pull(NAME, lock=lock)
    provisioning.remove(NAME)
    (tiny / "README.md").rename(tiny / "README.py")
    commit = hub.upload(NAME, tiny)
    old = tomllib.loads(lock.read_text())["models"][0]["commit"]
    lock.write_text(lock.read_text().replace("README.md", "README.py").replace(old, commit))
    with pytest.raises(LockfileError, match=r"no part of a model: README\.py"):
        langchain_localhf.pull(lock=lock, locked=True)
    assert "README.py" not in hub.fetched()


@pytest.mark.usefixtures("unchecked")
def test_locked_folder(hub: FakeHub, tiny: Path, tmp_path: Path) -> None:
    """A model that was added by hand cannot be pulled; with the same bytes in the store, all is well."""
    lock = tmp_path / "localhf.lock"
    provisioning.add(tiny, "org/own")
    provisioning.lock(lock)
    assert [model.name for model in langchain_localhf.pull(lock=lock, locked=True)] == ["org/own"]
    provisioning.remove("org/own")
    with pytest.raises(LockfileError) as caught:
        langchain_localhf.pull(lock=lock, locked=True)
    assert caught.value.hint == "add it from the same folder: localhf add PATH --as org/own"
    assert hub.requests == []


@pytest.mark.usefixtures("unchecked")
def test_lock_names_what_is_missing(tiny: Path, tmp_path: Path, store_home: Path) -> None:
    """Nothing is written for a model that is not there."""
    with pytest.raises(ModelNotFoundError, match="there are no models in the store"):
        provisioning.lock(tmp_path / "localhf.lock")
    provisioning.add(tiny, "org/own")
    with pytest.raises(ModelNotFoundError, match=f"org/won is not in the store {store_home}") as caught:
        provisioning.lock(tmp_path / "localhf.lock", ["org/won"])
    assert caught.value.hint == "did you mean org/own?"
    assert not (tmp_path / "localhf.lock").exists()
