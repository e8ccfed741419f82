"""From the hub into the store, and from there to a vector; against a real server."""

from __future__ import annotations

import base64
import shutil
from typing import TYPE_CHECKING

import pytest
from support import checkpoints
from support.fake_hub import TINY as NAME
from support.fake_hub import FakeHub
from support.folders import files, size

import langchain_localhf
from langchain_localhf import HuggingFaceEmbeddings, engines, provisioning
from langchain_localhf.errors import (
    CheckpointError,
)
from langchain_localhf.loading import load_encoder
from langchain_localhf.provisioning import transfer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.loopback


def test_pulled_model_is_found_by_every_spelling_and_embeds(hub: FakeHub, tiny: Path, store_home: Path) -> None:
    """From the hub to a vector; what is written down is what a load finds later."""
    commit = hub.repositories[NAME].references["main"]
    (model,) = langchain_localhf.pull("tiny")
    assert (model.name, model.folder) == (NAME, store_home / NAME)
    assert files(model.folder) == files(tiny)
    manifest = model.manifest
    assert manifest is not None
    assert (manifest.source, manifest.revision, manifest.commit) == ("hub", "main", commit)
    assert manifest.encoder is not None
    assert manifest.encoder.model_dump() == {
        "dimension": checkpoints.DIMENSION,
        "max_seq_length": 64,
        "pooling": ("mean",),
        "normalized": True,
        "prompts": {"query": "", "document": ""},
    }
    hub.requests.clear()
    for name in ("tiny", NAME, f"{NAME}@main", f"{NAME}@{commit}", str(model.folder)):
        embeddings = HuggingFaceEmbeddings(model_name=name)
        assert embeddings.fingerprint == manifest.fingerprint
        assert embeddings.embed_query("the weather") == HuggingFaceEmbeddings(model=str(tiny)).embed_query(
            "the weather"
        )
    assert hub.requests == []


def test_recorded_check_holds_at_the_next_load(hub: FakeHub) -> None:
    """The golden vectors are compared on load: changing them in the manifest is noticed, so they are really used."""
    (model,) = langchain_localhf.pull(NAME)
    manifest = model.manifest
    assert manifest is not None
    assert manifest.check is not None
    assert manifest.check.golden is not None
    assert set(manifest.check.versions) == {"sentence-transformers", "transformers", "torch", "tokenizers"}
    other = manifest.check.golden.model_copy(update={"float32_base64": base64.b64encode(b"\0\0\x80\x3f" * 64).decode()})
    check = manifest.check.model_copy(update={"golden": other})
    manifest.model_copy(update={"check": check}).write(model.folder)
    with pytest.raises(CheckpointError, match="gives other vectors than when it was checked"):
        load_encoder(NAME)
    assert hub.fetched() == sorted(files(model.folder))


def test_second_pull_asks_once_and_fetches_nothing(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    """The commit is there and its files are intact: one request, no load."""
    (first,) = langchain_localhf.pull(NAME)
    hub.requests.clear()
    (second,) = langchain_localhf.pull(NAME, show_progress=True)
    assert second == first
    assert hub.requests == [f"GET /api/models/{NAME}"]
    commit = hub.repositories[NAME].references["main"][:12]
    assert capsys.readouterr().err == (
        f"asking the hub for {NAME}\n{NAME} is here already, commit {commit}, all files verified\n"
    )


def test_progress_goes_to_stderr_with_size_and_free_space(
    hub: FakeHub, store_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a pull will cost is said before it starts; nothing goes to stdout."""
    monkeypatch.setattr(transfer, "free_bytes", lambda _folder: 12_300_000_000)
    langchain_localhf.pull(NAME, show_progress=True)
    captured = capsys.readouterr()
    commit = hub.repositories[NAME].references["main"][:12]
    assert captured.out == ""
    assert (
        f"pulling {NAME}, commit {commit}: 10 files, {size(store_home / NAME)}; 12.3 GB free in {store_home}\n"
        in captured.err
    )
    assert f"checking {NAME}\n" in captured.err


def test_pull_says_nothing_unless_asked(hub: FakeHub, capfd: pytest.CaptureFixture[str]) -> None:
    """A library is quiet."""
    langchain_localhf.pull(NAME)
    assert capfd.readouterr() == ("", "")
    assert hub.fetched() != []


@pytest.mark.usefixtures("unchecked")
def test_pull_repairs_a_tampered_model(hub: FakeHub, store_home: Path, tiny: Path) -> None:
    """Only the file that was changed is fetched, and an extra file is gone."""
    langchain_localhf.pull(NAME)
    (store_home / NAME / "modules.json").write_text("[]")
    (store_home / NAME / "evil.py").write_text("")
    (store_home / NAME / "config.json").unlink()
    hub.requests.clear()
    (model,) = langchain_localhf.pull(NAME)
    assert hub.fetched() == ["config.json", "modules.json"]
    assert files(model.folder) == files(tiny)
    assert not provisioning.verify(NAME)


@pytest.mark.usefixtures("unchecked")
def test_pull_replaces_a_damaged_manifest(hub: FakeHub, store_home: Path) -> None:
    """A manifest that cannot be read does not stand in the way of the command that repairs it."""
    langchain_localhf.pull(NAME)
    (store_home / NAME / "localhf.json").write_text("{")
    hub.requests.clear()
    langchain_localhf.pull(NAME)
    assert not provisioning.verify(NAME)
    assert hub.fetched() == []


@pytest.mark.usefixtures("unchecked")
def test_new_commit_takes_the_place_of_the_old_one(hub: FakeHub, tiny: Path) -> None:
    """One model, one folder; the files that did not change are not fetched again, those that went are gone."""
    (old,) = langchain_localhf.pull(NAME)
    (tiny / "README.md").unlink()
    (tiny / "NOTICE").write_text("new")
    commit = hub.upload(NAME, tiny)
    hub.requests.clear()
    (new,) = langchain_localhf.pull(NAME)
    assert hub.fetched() == ["NOTICE"]
    assert files(new.folder) == files(tiny)
    assert new.manifest is not None
    assert old.manifest is not None
    assert new.manifest.commit == commit
    assert new.manifest.fingerprint == old.manifest.fingerprint, "documents for people shape no vectors"


@pytest.mark.usefixtures("unchecked")
def test_same_commit_by_another_name(hub: FakeHub) -> None:
    """A tag on the commit that is here needs no download, and finds the model from then on."""
    commit = hub.repositories[NAME].references["main"]
    hub.repositories[NAME].references["v1"] = commit
    langchain_localhf.pull(NAME)
    hub.requests.clear()
    langchain_localhf.pull(f"{NAME}@v1")
    assert hub.fetched() == []
    manifest = provisioning.show(f"{NAME}@v1").manifest
    assert manifest is not None
    assert (manifest.revision, manifest.commit) == ("v1", commit)
    langchain_localhf.pull(f"{NAME}@{commit}")
    assert provisioning.show(f"{NAME}@v1").manifest == manifest


def test_model_pulled_without_an_engine_is_checked_once_there_is_one(hub: FakeHub) -> None:
    """Without torch the files are verified and fingerprinted; a pull with torch adds the check, and fetches nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "installed", lambda _backend="torch": False)
        (before,) = langchain_localhf.pull(NAME)
        assert before.manifest is not None
        assert (before.manifest.check, before.manifest.encoder) == (None, None)
        assert not provisioning.is_checked(before)
        assert langchain_localhf.pull(NAME) == [before]
    hub.requests.clear()
    (after,) = langchain_localhf.pull(NAME)
    assert after.manifest is not None
    assert after.manifest.check is not None
    assert provisioning.is_checked(after)
    assert after.manifest.fingerprint == before.manifest.fingerprint
    assert hub.fetched() == []


@pytest.mark.parametrize("then", ["0.0.1", None])
def test_model_checked_with_other_versions_is_checked_anew(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, then: str | None
) -> None:
    """The command in the hint of a golden vector's error does what it says."""
    (model,) = langchain_localhf.pull(NAME)
    assert model.manifest is not None
    assert model.manifest.check is not None
    changed = {"torch": then} if then else {"no-such-package": "1"}
    check = model.manifest.check.model_copy(update={"versions": changed})
    model.manifest.model_copy(update={"check": check}).write(model.folder)
    (again,) = langchain_localhf.pull(NAME)
    assert again == model
    assert len(hub.fetched()) == len(model.manifest.files), "nothing was fetched twice"


def test_plain_checkpoint_is_pulled_without_a_fingerprint(hub: FakeHub, tmp_path: Path) -> None:
    """Its vectors depend on the pooling, which the user states on load."""
    hub.upload("org/plain", checkpoints.plain(tmp_path / "plain"))
    (model,) = langchain_localhf.pull("org/plain")
    assert model.manifest is not None
    assert (model.manifest.fingerprint, model.manifest.check) == (None, None)
    assert provisioning.is_checked(model)
    assert HuggingFaceEmbeddings(model_name="org/plain", pooling="cls").dimension == checkpoints.DIMENSION
    hub.requests.clear()
    assert langchain_localhf.pull("org/plain") == [model]
    assert hub.fetched() == []


@pytest.mark.usefixtures("unchecked")
def test_model_in_the_hugging_face_cache_is_not_downloaded_again(
    hub: FakeHub, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has used the model before has its files; they are hashed as if they had been fetched."""
    commit = hub.repositories[NAME].references["main"]
    repository = tmp_path / "cache" / "models--sentence-transformers--tiny"
    shutil.copytree(tiny, repository / "snapshots" / commit)
    (repository / "snapshots" / commit / "config.json").write_text("{}")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    (model,) = langchain_localhf.pull(NAME)
    assert hub.fetched() == ["config.json"]
    assert files(model.folder) == files(tiny)
