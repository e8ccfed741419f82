"""Adding, verifying and removing; nothing of this needs a network."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from support import checkpoints
from support.fake_hub import TINY as NAME
from support.folders import files, size

from langchain_localhf import HuggingFaceEmbeddings, provisioning
from langchain_localhf.errors import (
    IntegrityError,
    LockfileError,
    ModelNotFoundError,
    ModelReferenceError,
    PullError,
    UninitializedWeightsError,
    UnsafeModelError,
)
from langchain_localhf.provisioning import admission
from langchain_localhf.store import disk
from langchain_localhf.store.manifest import Manifest
from langchain_localhf.store.model_store import ModelStore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.loopback


def test_add_copies_only_what_the_model_needs(tiny: Path, store_home: Path) -> None:
    """A bare name is stored where every spelling finds it; the folder is left as it was."""
    for junk in ("training_args.bin", "optimizer.pt", "evil.py", ".git/config", "onnx/model.onnx"):
        (tiny / junk).parent.mkdir(exist_ok=True)
        (tiny / junk).write_bytes(b"junk")
    before = files(tiny)
    model = provisioning.add(tiny, "tiny")
    assert (model.name, model.folder) == (NAME, store_home / NAME)
    assert model.manifest is not None
    assert (model.manifest.source, model.manifest.commit) == ("folder", None)
    assert sorted(files(model.folder)) == sorted(model.manifest.hashes)
    assert len(model.manifest.files) == 10
    assert files(tiny) == before
    assert HuggingFaceEmbeddings(model_name="tiny").fingerprint == HuggingFaceEmbeddings(model=str(tiny)).fingerprint


@pytest.mark.usefixtures("unchecked")
def test_added_model_can_be_added_again(tiny: Path, store_home: Path) -> None:
    """From a folder with a manifest, too: a copied store folder, or the one in the store itself."""
    first = provisioning.add(tiny, "org/one")
    assert provisioning.add(first.folder, "org/one") == first
    second = provisioning.add(first.folder, "org/two")
    assert second.manifest is not None
    assert first.manifest is not None
    assert second.manifest.files == first.manifest.files
    assert ModelStore(store_home).names() == ["org/one", "org/two"]


@pytest.mark.usefixtures("unchecked")
def test_add_refuses_a_tampered_folder(tiny: Path) -> None:
    """A folder that has a manifest is held to it."""
    folder = provisioning.add(tiny, "org/one").folder
    (folder / "modules.json").write_bytes((folder / "modules.json").read_bytes() + b" ")
    with pytest.raises(IntegrityError, match=r"1 changed: modules\.json"):
        provisioning.add(folder, "org/two")
    assert not (folder.parent / "two").exists()


def test_add_refuses_an_unsound_folder(tiny: Path, store_home: Path) -> None:
    """The model that had the name stays."""
    provisioning.add(tiny, NAME)
    before = files(store_home / NAME)
    checkpoints.edit_weights(tiny, lambda tensors: dict(list(tensors.items())[:-3]))
    with pytest.raises(UninitializedWeightsError):
        provisioning.add(tiny, NAME)
    assert files(store_home / NAME) == before


@pytest.mark.usefixtures("unchecked")
def test_add_refuses_pickle_and_nothing(tiny: Path, tmp_path: Path) -> None:
    """Before a byte is copied."""
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    with pytest.raises(UnsafeModelError, match="pickle"):
        provisioning.add(tiny, "org/pickled")
    with pytest.raises(ModelNotFoundError, match="there is no folder at"):
        provisioning.add(tmp_path / "nowhere", "org/nothing")
    with pytest.raises(ModelReferenceError) as caught:
        provisioning.add(tiny, "org/name@v1")
    assert caught.value.hint == "leave it out: org/name"
    assert provisioning.models() == []


@pytest.mark.usefixtures("unchecked")
def test_add_needs_room(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words as for a pull, before and in the middle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(disk.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1_000))
        with pytest.raises(PullError, match=f"org/name needs {size(tiny)}, 1.0 kB free in"):
            provisioning.add(tiny, "org/name")

    def broken(*_args: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("langchain_localhf.provisioning.inventory.shutil.copyfile", broken)
    code = errno.ENOSPC
    with pytest.raises(PullError, match=f"org/name needs {size(tiny)}"):
        provisioning.add(tiny, "org/name")
    code = errno.EIO
    with pytest.raises(OSError, match="Input/output error"):
        provisioning.add(tiny, "org/name")


def test_add_from_a_working_folder_of_the_same_name(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`localhf add tiny --as tiny`: the name is a name, though a folder is called so, too."""
    monkeypatch.chdir(tiny.parent)
    assert provisioning.add("tiny", "tiny").name == NAME


@pytest.mark.usefixtures("unchecked")
def test_verify_lists_every_difference(tiny: Path) -> None:
    """All at once, without a network."""
    folder = provisioning.add(tiny, NAME).folder
    assert not provisioning.verify("tiny")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "config.json").unlink()
    (folder / "evil.py").write_text("")
    found = provisioning.verify("tiny")
    assert found.changed == ("model.safetensors", "tokenizer.json")
    assert found.missing == ("config.json",)
    assert found.extra == ("evil.py",)


def test_verify_needs_a_manifest(tiny: Path) -> None:
    """A folder that nobody pulled or added has nothing to be compared with."""
    with pytest.raises(LockfileError, match=r"nothing says what .* should hold") as caught:
        provisioning.verify(str(tiny))
    assert caught.value.hint == f"bring it into the store: localhf add {tiny} --as tiny"


@pytest.mark.usefixtures("unchecked")
def test_remove(tiny: Path, store_home: Path) -> None:
    """The folder goes, with its organisation's if that is empty; the other models stay."""
    provisioning.add(tiny, "org/one")
    provisioning.add(tiny, "tiny")
    assert provisioning.remove("tiny").name == NAME
    assert not (store_home / "sentence-transformers").exists()
    assert [model.name for model in provisioning.models()] == ["org/one"]
    with pytest.raises(ModelNotFoundError, match="sentence-transformers/tiny is not in the store"):
        provisioning.remove("tiny")


def test_admission_deletes_what_it_refuses(tmp_path: Path) -> None:
    """A locked model whose bytes are others is gone from the staging folder, too."""
    store = ModelStore(tmp_path)
    staged = checkpoints.sentence_transformer(tmp_path / "staged")
    entries = provisioning.add(staged, "org/name").manifest
    assert entries is not None
    demanded = Manifest(name="org/name", source="folder", files=entries.files[1:])
    with pytest.raises(IntegrityError, match=r"1_Pooling/config\.json"):
        admission.admit(store, staged, demanded)
    assert not staged.exists()
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - whatever there is
