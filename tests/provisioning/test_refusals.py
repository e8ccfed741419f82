"""What a pull refuses, and what it leaves behind then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from support import checkpoints
from support.fake_hub import TINY as NAME
from support.fake_hub import FakeHub
from support.folders import files, size

import langchain_localhf
from langchain_localhf import provisioning
from langchain_localhf.errors import (
    IncompleteModelError,
    IntegrityError,
    ModelNotFoundError,
    ModelReferenceError,
    PullError,
    StoreError,
    UninitializedWeightsError,
    UnsafeModelError,
)
from langchain_localhf.store import disk

if TYPE_CHECKING:
    from pathlib import Path

ALWAYS = 1_000
pytestmark = pytest.mark.loopback


def test_pickle_is_refused_before_it_is_fetched(hub: FakeHub, tiny: Path, store_home: Path) -> None:
    """Not a byte of the weights is asked for."""
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    hub.upload("org/pickled", tiny)
    with pytest.raises(UnsafeModelError) as caught:
        langchain_localhf.pull("org/pickled")
    assert caught.value.message == (
        "org/pickled has its weights only as pickle (pytorch_model.bin), which can run code when it is read"
    )
    assert hub.fetched() == []
    assert not (store_home / "org").exists()


def test_unsound_model_leaves_the_old_one_in_place(hub: FakeHub, tiny: Path, store_home: Path) -> None:
    """A new commit with a layer missing is refused; nothing of it stays on the disk."""
    langchain_localhf.pull(NAME)
    before = files(store_home / NAME)
    checkpoints.edit_json(tiny / "config.json", num_hidden_layers=checkpoints.LAYERS + 1)
    hub.upload(NAME, tiny)
    with pytest.raises(UninitializedWeightsError):
        langchain_localhf.pull(NAME)
    assert files(store_home / NAME) == before
    assert not provisioning.verify(NAME)
    assert list((store_home / ".partial").iterdir()) == []


@pytest.mark.usefixtures("unchecked")
def test_incomplete_repository(hub: FakeHub, tiny: Path, store_home: Path) -> None:
    """What the files say is missing is found without any engine."""
    (tiny / "1_Pooling" / "config.json").unlink()
    hub.upload("org/incomplete", tiny)
    with pytest.raises(IncompleteModelError, match=r"1_Pooling/config\.json"):
        langchain_localhf.pull("org/incomplete")
    assert provisioning.models() == []
    assert list((store_home / ".partial").iterdir()) == []


@pytest.mark.usefixtures("unchecked")
def test_wrong_bytes_never_reach_the_store(hub: FakeHub, store_home: Path) -> None:
    """The next pull fetches the one bad file and no other."""
    hub.corrupt["model.safetensors"] = ALWAYS
    with pytest.raises(IntegrityError):
        langchain_localhf.pull(NAME)
    assert not (store_home / NAME).exists()
    hub.corrupt.clear()
    hub.requests.clear()
    langchain_localhf.pull(NAME)
    assert hub.fetched() == ["model.safetensors"]


@pytest.mark.usefixtures("unchecked")
def test_too_small_a_disk_changes_nothing(
    hub: FakeHub, tiny: Path, store_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the store nor the lockfile."""
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1_000))
    with pytest.raises(PullError, match=f"needs {size(tiny)}, 1.0 kB free in"):
        langchain_localhf.pull(NAME, lock=tiny / "localhf.lock")
    assert hub.fetched() == []
    assert not (tiny / "localhf.lock").exists()
    assert not (store_home / NAME).exists()


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ((), ModelReferenceError, "no model was named"),
        (("./nowhere",), ModelNotFoundError, "there is no folder at './nowhere'"),
        (("folder",), ModelReferenceError, "'folder' is a folder here"),
        (("a b",), ModelReferenceError, "cannot read the model name 'a b'"),
    ],
)
def test_names_that_cannot_be_pulled(
    hub: FakeHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    names: tuple[str, ...],
    error: type[Exception],
    message: str,
) -> None:
    """All names are read before the first is pulled."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(error, match=message):
        langchain_localhf.pull(*([NAME] if names else []), *names)
    assert hub.requests == []


def test_no_place_for_a_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home is told what to set."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError))
    with pytest.raises(StoreError) as caught:
        langchain_localhf.pull(NAME)
    assert caught.value.hint == "name a folder: export LOCALHF_HOME=/path/to/models"
