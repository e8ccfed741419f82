"""Models whose code comes with them, from the hub to the vectors that their authors meant; and everything refused."""

from __future__ import annotations

import shutil
import tomllib
from typing import TYPE_CHECKING

import pytest
import torch
from support import checkpoints, remote_checkpoints
from support.checkpoints import edit_json
from support.fake_hub import TINY, FakeHub, Repository
from support.folders import files
from support.remote_checkpoints import REPOSITORY as CODE
from support.remote_checkpoints import TEXTS
from torch.nn.functional import normalize

import langchain_localhf
from langchain_localhf import HuggingFaceEmbeddings, provisioning
from langchain_localhf.errors import (
    CheckpointError,
    IncompleteModelError,
    IntegrityError,
    LockfileError,
    PullError,
    UnsafeModelError,
)
from langchain_localhf.loading import load_encoder
from langchain_localhf.provisioning import admission
from langchain_localhf.store.manifest import CodeOrigin, Differences, Manifest, describe

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from langchain_localhf.store.plain_data import FileEntry

pytestmark = pytest.mark.loopback

NAME = "some-org/jina"
VENDORED = "code/some-org--bert-with.alibi"
CONFIGURATION, MODELING = "configuration_bert.py", "modeling_bert.py"
ALWAYS = 1_000
TRUST = {"trust_remote_code": True}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model as jina's, with its code vendored, as it should be in the store."""
    return remote_checkpoints.alibi(positions=128).build(tmp_path / "jina")


@pytest.fixture
def jina(hub: FakeHub, folder: Path) -> FakeHub:
    """A hub with that model, and with its code in another repository, among what nobody needs."""
    code = {path: (folder / VENDORED / path).read_bytes() for path in (CONFIGURATION, MODELING)}
    junk = {"README.md": b"code", "unrelated.py": b"raise SystemExit", "model.safetensors": b"weights", "a.json": b"{}"}
    hub.repositories[CODE] = Repository()
    hub.repositories[CODE].commit(code | junk)
    _upload_model(hub, folder)
    return hub


def _upload_model(hub: FakeHub, folder: Path) -> str:
    own = {path: content for path, content in files(folder).items() if not path.startswith("code/")}
    return hub.repositories.setdefault(NAME, Repository()).commit(own)


def _head(hub: FakeHub, name: str = CODE) -> str:
    return hub.repositories[name].references["main"]


def _change_code(hub: FakeHub, **changes: bytes) -> str:
    """A new commit of the code; files are named without their suffix, and their content is put before the old one."""
    repository = hub.repositories[CODE]
    content = dict(repository.commits[_head(hub)])
    for path, source in changes.items():
        content[f"{path}.py"] = source + content.get(f"{path}.py", b"")
    return repository.commit(content)


def _manifest(name: str = NAME) -> Manifest:
    found = provisioning.show(name).manifest
    assert found is not None
    return found


def _vectors(model: str | Path) -> Tensor:
    embeddings = HuggingFaceEmbeddings(model_name=str(model), model_kwargs=TRUST)
    return normalize(torch.tensor(embeddings.embed_documents(list(TEXTS))))


class TestRefused:
    """Without trust, and where trust does not help: before a byte of the weights is asked for."""

    def test_without_trust(self, jina: FakeHub, store_home: Path) -> None:
        """The error says what would run, at which commit of which repository, and both ways forward."""
        with pytest.raises(UnsafeModelError) as caught:
            langchain_localhf.pull(NAME)
        assert caught.value.message == (
            f"{NAME} needs code that comes with it, and nobody said that this code is trusted:\n"
            f"  configuration_bert.AlibiBertConfig, modeling_bert.AlibiBertModel of {CODE} at commit {_head(jina)} "
            "(named in config.json)"
        )
        assert caught.value.hint == (
            f"read that code; if you trust it, `localhf pull --trust-remote-code {NAME}` once, and pass "
            'model_kwargs={"trust_remote_code": True}; if you do not, use a model without code'
        )
        assert {path.rpartition(".")[2] for path in jina.fetched()} == {"json"}
        assert "tokenizer.json" not in jina.fetched()
        assert provisioning.models() == []
        assert list((store_home / ".partial").iterdir()) == []

    def test_code_of_its_own(self, hub: FakeHub, tmp_path: Path) -> None:
        """The commit is the model's."""
        commit = hub.upload(NAME, remote_checkpoints.growing().build(tmp_path / "model"))
        with pytest.raises(UnsafeModelError, match=f"bert_layers.BertModel of its own repository at commit {commit}"):
            langchain_localhf.pull(NAME)
        assert "model.safetensors" not in hub.fetched()

    @pytest.mark.parametrize("text", ["../x--m.M", "/etc/x--m.M", "org/..--m.M", "../m.M"])
    def test_hostile_reference(self, jina: FakeHub, folder: Path, text: str) -> None:
        """With trust, too; and no other repository is asked for anything."""
        edit_json(folder / "config.json", auto_map={"AutoModel": text})
        _upload_model(jina, folder)
        with pytest.raises(UnsafeModelError, match="neither in its repository nor in another"):
            langchain_localhf.pull(NAME, trust_remote_code=True)
        assert not any(CODE in request for request in jina.requests)
        assert "model.safetensors" not in jina.fetched()

    def test_what_trust_does_not_cover(self, jina: FakeHub, folder: Path) -> None:
        """Compute kernels are code of yet another repository; that is known before the first is asked."""
        edit_json(folder / "config.json", attn_implementation="org/kernel")
        _upload_model(jina, folder)
        with pytest.raises(UnsafeModelError, match="asks for compute kernels"):
            langchain_localhf.pull(NAME, trust_remote_code=True)
        assert not any(CODE in request for request in jina.requests)
        assert "model.safetensors" not in jina.fetched()

    @pytest.mark.usefixtures("unchecked")
    def test_an_activation_function_from_elsewhere(self, hub: FakeHub, tmp_path: Path) -> None:
        """Code without a file, named by a part of the model; trust in it is recorded, too."""
        folder = checkpoints.with_dense(tmp_path / "dense")
        edit_json(folder / "2_Dense" / "config.json", activation_function="transformers.activations.GELUActivation")
        hub.upload(NAME, folder)
        with pytest.raises(UnsafeModelError, match="GELUActivation") as caught:
            langchain_localhf.pull(NAME)
        assert caught.value.hint is not None
        assert f"`localhf pull --trust-remote-code {NAME}` once" in caught.value.hint
        assert "model.safetensors" not in hub.fetched()
        langchain_localhf.pull(NAME, trust_remote_code=True)
        assert (_manifest().trust_remote_code, _manifest().code) == (True, ())

    @pytest.mark.parametrize("trusted", [True, False])
    def test_repository_that_is_gone(self, jina: FakeHub, trusted: bool) -> None:  # noqa: FBT001
        """The error names it, and the model that wants it."""
        del jina.repositories[CODE]
        with pytest.raises(PullError, match=f"{NAME} needs code of {CODE}: there is no {CODE} on"):
            langchain_localhf.pull(NAME, trust_remote_code=trusted)
        assert "model.safetensors" not in jina.fetched()

    def test_gated_repository(self, jina: FakeHub) -> None:
        """The hint says where its terms are."""
        jina.repositories[CODE].gated = True
        with pytest.raises(PullError, match=f"{NAME} needs code of {CODE}: {CODE} is gated") as caught:
            langchain_localhf.pull(NAME, trust_remote_code=True)
        assert caught.value.hint is not None
        assert f"{jina.endpoint}/{CODE}" in caught.value.hint
        assert "model.safetensors" not in jina.fetched()

    def test_file_that_is_gone(self, jina: FakeHub, store_home: Path) -> None:
        """What one file of code imports is not there."""
        del jina.repositories[CODE].commits[_head(jina)][CONFIGURATION]
        with pytest.raises(IncompleteModelError, match=f"{CONFIGURATION} of {CODE}") as caught:
            langchain_localhf.pull(NAME, trust_remote_code=True)
        assert caught.value.missing == (f"{VENDORED}/{CONFIGURATION}",)
        assert "model.safetensors" not in jina.fetched()
        assert list((store_home / ".partial").iterdir()) == []

    def test_import_from_outside(self, jina: FakeHub) -> None:
        """Code of one repository does not reach into another, or into the model."""
        _change_code(jina, modeling_bert=b"from ..config import X\n")
        with pytest.raises(CheckpointError, match=f"{MODELING} imports from outside of its repository"):
            langchain_localhf.pull(NAME, trust_remote_code=True)

    def test_wrong_bytes(self, jina: FakeHub) -> None:
        """Code is compared with the hub's hash as every file is; what is not it never comes."""
        jina.corrupt[MODELING] = ALWAYS
        with pytest.raises(IntegrityError, match=f"{MODELING}: expected"):
            langchain_localhf.pull(NAME, trust_remote_code=True)
        assert provisioning.models() == []


class TestTrusted:
    """With trust: all of the code and nothing else, once, and the authors' vectors without a network."""

    def test_from_the_hub_to_the_authors_vectors(self, jina: FakeHub, folder: Path) -> None:
        """What is in the store is the vendored model, and it gives what plain torch gives for the same weights."""
        (model,) = langchain_localhf.pull(NAME, trust_remote_code=True)
        assert files(model.folder) == files(folder)
        assert "unrelated.py" not in jina.fetched()
        assert len(jina.fetched()) == len(set(jina.fetched())), "nothing was fetched twice"
        manifest = _manifest()
        assert manifest.trust_remote_code
        assert manifest.code == (CodeOrigin(repository=CODE, commit=_head(jina)),)
        assert manifest.commits == {"": _head(jina, NAME), CODE: _head(jina)}
        assert set(manifest.hashes) == set(files(folder))
        assert provisioning.is_checked(model)
        jina.requests.clear()
        embeddings = HuggingFaceEmbeddings(model_name=NAME, model_kwargs=TRUST)
        assert embeddings.fingerprint == manifest.fingerprint
        expected = normalize(remote_checkpoints.alibi(positions=128).vectors(folder))
        torch.testing.assert_close(_vectors(NAME), expected, rtol=0, atol=1e-6)
        assert jina.requests == []

    def test_trust_is_stated_on_every_load(self, jina: FakeHub) -> None:
        """What was trusted at the pull is not run behind the back of someone who does not."""
        langchain_localhf.pull(NAME, trust_remote_code=True)
        with pytest.raises(UnsafeModelError, match=f"AlibiBertModel of {CODE} at commit {_head(jina)}") as caught:
            HuggingFaceEmbeddings(model_name=NAME)
        assert caught.value.hint is not None
        assert "localhf pull" not in caught.value.hint, "it is here"

    def test_imports_are_followed(self, hub: FakeHub, tmp_path: Path) -> None:
        """Through files and folders, and into a `try` where there is something; nothing else is brought."""
        foreign = remote_checkpoints.growing()
        folder = foreign.build(tmp_path / "model")
        optional = b"try:\n    from .fast import B\n    from .faster import C\nexcept ImportError:\n    C = A\n"
        layers = (folder / "bert_layers.py").read_bytes()
        (folder / "bert_layers.py").write_bytes(b"from .parts.first import A\n" + optional + layers)
        (folder / "parts" / "second").mkdir(parents=True)
        (folder / "parts" / "first.py").write_text("from .second import A")
        (folder / "parts" / "second" / "__init__.py").write_text("A = 1")
        (folder / "fast.py").write_text("B = 2")
        before = files(folder)
        (folder / "unrelated.py").write_text("raise SystemExit")
        hub.upload(NAME, folder)
        (model,) = langchain_localhf.pull(NAME, trust_remote_code=True)
        assert files(model.folder) == before
        assert (_manifest().trust_remote_code, _manifest().code) == (True, ())
        torch.testing.assert_close(_vectors(NAME), normalize(foreign.vectors(folder)), rtol=0, atol=1e-6)

    @pytest.mark.usefixtures("unchecked")
    def test_own_repository_named_in_full(self, hub: FakeHub, tmp_path: Path) -> None:
        """It is the model's own commit that counts, not what `main` is."""
        folder = remote_checkpoints.growing().build(tmp_path / "model")
        edit_json(folder / "config.json", auto_map={"AutoModel": f"{NAME}--bert_layers.BertModel"})
        commit = hub.upload(NAME, folder, revision="v1")
        (folder / "bert_layers.py").write_text("raise SystemExit")
        hub.upload(NAME, folder)
        with pytest.raises(UnsafeModelError, match=f"of {NAME} at commit {commit}"):
            langchain_localhf.pull(f"{NAME}@v1")
        (model,) = langchain_localhf.pull(f"{NAME}@v1", trust_remote_code=True)
        assert "SystemExit" not in (model.folder / "bert_layers.py").read_text()
        assert (_manifest().code, _manifest().trust_remote_code) == ((), True)

    @pytest.mark.usefixtures("hub")
    def test_model_without_code(self) -> None:
        """The flag changes nothing, and no trust is recorded."""
        (asked,) = langchain_localhf.pull(TINY, trust_remote_code=True)
        assert asked.manifest is not None
        assert not asked.manifest.trust_remote_code
        assert langchain_localhf.pull(TINY) == [asked]
        provisioning.remove(TINY)
        assert langchain_localhf.pull(TINY) == [asked]

    def test_code_that_is_changed_while_it_is_checked(
        self, jina: FakeHub, store_home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What runs at the check is what was hashed for the manifest, and not what lies there a moment later."""

        def describe_and_change(staged: Path, paths: list[str]) -> tuple[FileEntry, ...]:
            described = describe(staged, paths)
            (staged / VENDORED / MODELING).write_text("raise SystemExit")
            return described

        monkeypatch.setattr(admission, "describe", describe_and_change)
        with pytest.raises(IntegrityError, match=f"1 changed: {VENDORED}/{MODELING}"):
            langchain_localhf.pull(NAME, trust_remote_code=True)
        assert jina.requests != []
        assert list((store_home / ".partial").iterdir()) == []

    @pytest.mark.parametrize("change", ["changed", "missing", "extra"])
    def test_code_that_was_changed_is_not_run(self, jina: FakeHub, tmp_path: Path, change: str) -> None:
        """Neither the file nor any other code of the model; `verify` and a load say the same."""
        _change_code(jina, configuration_bert=f"open({str(tmp_path / 'ran')!r}, 'w').close()\n".encode())
        (model,) = langchain_localhf.pull(NAME, trust_remote_code=True)
        (tmp_path / "ran").unlink()
        path = f"{VENDORED}/{'new' if change == 'extra' else 'modeling_bert'}.py"
        if change == "missing":
            (model.folder / path).unlink()
        elif change == "extra":
            (model.folder / path).write_text("")
        else:
            checkpoints.flip_byte(model.folder / path)
        assert provisioning.verify(NAME) == Differences(**{change: (path,)})
        with pytest.raises(IntegrityError) as caught:
            load_encoder(NAME, model_kwargs=TRUST)
        assert getattr(caught.value, change) == (path,)
        assert caught.value.hint == (
            f"bring the files back: localhf pull --trust-remote-code {NAME}@{_head(jina, NAME)}"
        )
        assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("unchecked")
class TestPulledAgain:
    """What a second pull does with trust and with code that has moved on."""

    def test_without_the_flag(self, jina: FakeHub, store_home: Path) -> None:
        """Refused, and nothing is changed; the flag is not taken from the last time."""
        langchain_localhf.pull(NAME, trust_remote_code=True)
        before = {path.name: path.read_bytes() for path in (store_home / NAME).rglob("*") if path.is_file()}
        jina.requests.clear()
        with pytest.raises(UnsafeModelError, match=f"of {CODE} at commit {_head(jina)}"):
            langchain_localhf.pull(NAME)
        assert jina.fetched() == []
        assert {path.name: path.read_bytes() for path in (store_home / NAME).rglob("*") if path.is_file()} == before
        assert list((store_home / ".partial").iterdir()) == []

    def test_with_the_flag(self, jina: FakeHub) -> None:
        """One request, as for every model."""
        first = langchain_localhf.pull(NAME, trust_remote_code=True)
        jina.requests.clear()
        assert langchain_localhf.pull(NAME, trust_remote_code=True) == first
        assert jina.requests == [f"GET /api/models/{NAME}"]

    def test_code_that_nobody_wanted_before(self, hub: FakeHub, tiny: Path) -> None:
        """A class for another task is no reason to ask; with trust it is brought, and the weights are not again."""
        edit_json(tiny / "config.json", auto_map={"AutoModelForMaskedLM": "m.M", "TFAutoModel": "gone.M"})
        (tiny / "m.py").write_text("class M: ...")
        hub.upload(TINY, tiny)
        (before,) = langchain_localhf.pull(TINY)
        assert "m.py" not in files(before.folder)
        hub.requests.clear()
        langchain_localhf.pull(TINY, trust_remote_code=True)
        assert hub.fetched() == ["m.py"]
        assert _manifest(TINY).trust_remote_code
        assert "m.py" in _manifest(TINY).hashes

    def test_code_that_moved_on(self, jina: FakeHub, folder: Path) -> None:
        """The same commit keeps its code, and so its vectors, also when it is repaired; a new one gets new code."""
        old = _head(jina)
        (model,) = langchain_localhf.pull(NAME, trust_remote_code=True)
        before = files(model.folder)
        new = _change_code(jina, modeling_bert=b"# new\n")
        langchain_localhf.pull(NAME, trust_remote_code=True)
        assert _manifest().commits[CODE] == old
        checkpoints.flip_byte(model.folder / VENDORED / MODELING)
        langchain_localhf.pull(NAME, trust_remote_code=True)
        assert (files(model.folder), _manifest().commits[CODE]) == (before, old)
        (folder / "README.md").write_text("new")
        _upload_model(jina, folder)
        langchain_localhf.pull(NAME, trust_remote_code=True)
        assert _manifest().commits[CODE] == new
        assert files(model.folder)[f"{VENDORED}/{MODELING}"].startswith(b"# new\n")


@pytest.mark.usefixtures("unchecked")
class TestLocked:
    """A lockfile has the code of every repository, and does not speak for whoever runs it."""

    def test_round_trip(self, jina: FakeHub, folder: Path, tmp_path: Path, store_home: Path) -> None:
        """Both repositories have moved on: the same bytes, and a lockfile of them is the same text."""
        lock = tmp_path / "localhf.lock"
        langchain_localhf.pull(NAME, lock=lock, trust_remote_code=True)
        text, before = lock.read_text(), files(store_home / NAME)
        (locked,) = tomllib.loads(text)["models"]
        assert locked["trust_remote_code"] is True
        assert locked["code"] == [{"repository": CODE, "commit": _head(jina)}]
        _change_code(jina, modeling_bert=b"# new\n")
        (folder / "README.md").write_text("new")
        _upload_model(jina, folder)
        shutil.rmtree(store_home)
        langchain_localhf.pull(lock=lock, locked=True, trust_remote_code=True)
        assert files(store_home / NAME) == before
        provisioning.lock(tmp_path / "again.lock")
        assert (tmp_path / "again.lock").read_text() == text
        jina.requests.clear()
        langchain_localhf.pull(lock=lock, locked=True, trust_remote_code=True)
        assert jina.requests == []

    def test_trust_is_stated_again(self, jina: FakeHub, tmp_path: Path) -> None:
        """A lockfile comes with a project, and a file of data is not enough to run code."""
        lock = tmp_path / "localhf.lock"
        langchain_localhf.pull(TINY, lock=lock)
        langchain_localhf.pull(NAME, lock=lock, trust_remote_code=True)
        provisioning.remove(NAME)
        provisioning.remove(TINY)
        jina.requests.clear()
        with pytest.raises(UnsafeModelError) as caught:
            langchain_localhf.pull(lock=lock, locked=True)
        assert f"{NAME}: {CODE} at commit {_head(jina)}" in caught.value.message
        assert caught.value.hint == "read that code; if you trust it, too: localhf pull --locked --trust-remote-code"
        assert (jina.requests, provisioning.models()) == ([], [])
        assert [model.name for model in langchain_localhf.pull(TINY, lock=lock, locked=True)] == [TINY]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (f'path = "{VENDORED}/{MODELING}"', f'path = "{VENDORED}/nothing.py"', "the hub has other files for"),
            (f'path = "{VENDORED}/{MODELING}"', f'path = "{VENDORED}/x.json"', "the hub has other files for"),
            (f'repository = "{CODE}"', 'repository = "some-org/other"', "the hub has other files for"),
            ("trust_remote_code = true", "trust_remote_code = false", "a model with code needs trust_remote_code"),
            ("", "", "files of some-org/jina are not those"),
        ],
    )
    def test_tampered(self, jina: FakeHub, tmp_path: Path, old: str, new: str, message: str) -> None:
        """What the lockfile says of code is held against the hub, and against what arrives."""
        lock = tmp_path / "localhf.lock"
        langchain_localhf.pull(NAME, lock=lock, trust_remote_code=True)
        text = lock.read_text()
        digest = _manifest().hashes[f"{VENDORED}/{CONFIGURATION}"]
        lock.write_text(text.replace(old, new) if old else text.replace(digest, "0" * 64))
        provisioning.remove(NAME)
        jina.repositories["some-org/other"] = Repository()
        commit = _head(jina)
        jina.repositories["some-org/other"].commits[commit] = {"x.py": b""}
        with pytest.raises((LockfileError, IntegrityError), match=message):
            langchain_localhf.pull(lock=lock, locked=True, trust_remote_code=True)
        assert provisioning.models() == []

    def test_files_that_are_no_code(self, jina: FakeHub, tmp_path: Path) -> None:
        """Of another repository only code can be meant: its weights would lie where nobody looks."""
        lock = tmp_path / "localhf.lock"
        langchain_localhf.pull(NAME, lock=lock, trust_remote_code=True)
        entry = next(entry for entry in _manifest().files if entry.path == f"{VENDORED}/{CONFIGURATION}")
        repository = jina.repositories[CODE]
        content = dict(repository.commits[_head(jina)])
        content["aaa.json"] = content[CONFIGURATION]
        before = _head(jina)
        after = repository.commit(content)
        lock.write_text(lock.read_text().replace(entry.path, f"{VENDORED}/aaa.json").replace(before, after))
        provisioning.remove(NAME)
        with pytest.raises(LockfileError, match=rf"no part of a model: {VENDORED}/aaa\.json"):
            langchain_localhf.pull(lock=lock, locked=True, trust_remote_code=True)


class TestAdded:
    """Folders: the same trust, and code from wherever it lies."""

    def test_without_trust(self, folder: Path) -> None:
        """The hint is a command that adds."""
        with pytest.raises(UnsafeModelError, match=f"AlibiBertModel of {CODE} \\(named") as caught:
            provisioning.add(folder, NAME)
        assert caught.value.hint is not None
        assert f"`localhf add {folder} --as {NAME} --trust-remote-code` once" in caught.value.hint
        assert provisioning.models() == []

    def test_with_trust(self, folder: Path) -> None:
        """The code that is needed is copied; which commit it is at, nobody knows."""
        before = files(folder)
        (folder / VENDORED / "unrelated.py").write_text("raise SystemExit")
        model = provisioning.add(folder, NAME, trust_remote_code=True)
        assert files(model.folder) == before
        assert _manifest().code == (CodeOrigin(repository=CODE),)
        assert _manifest().origin_command == f"localhf add --trust-remote-code PATH --as {NAME}"
        assert HuggingFaceEmbeddings(model_name=NAME, model_kwargs=TRUST).fingerprint == _manifest().fingerprint

    @pytest.mark.usefixtures("unchecked")
    def test_from_a_store(self, jina: FakeHub, tmp_path: Path) -> None:
        """The copy of a pulled model still knows its commits, under another name and to a lockfile."""
        (model,) = langchain_localhf.pull(NAME, trust_remote_code=True)
        added = provisioning.add(model.folder, "org/copy", trust_remote_code=True)
        assert added.manifest is not None
        assert added.manifest.code == (CodeOrigin(repository=CODE, commit=_head(jina)),)
        assert added.manifest.fingerprint == _manifest().fingerprint
        provisioning.lock(tmp_path / "localhf.lock", ["org/copy"])
        (again,) = langchain_localhf.pull(lock=tmp_path / "localhf.lock", locked=True, trust_remote_code=True)
        assert again.manifest == added.manifest

    @pytest.mark.usefixtures("unchecked")
    def test_own_repository_named_in_full(self, hub: FakeHub, tmp_path: Path) -> None:
        """Under another name it is another repository's code."""
        folder = remote_checkpoints.growing().build(tmp_path / "model")
        edit_json(folder / "config.json", auto_map={"AutoModel": f"{NAME}--bert_layers.BertModel"})
        commit = hub.upload(NAME, folder)
        (model,) = langchain_localhf.pull(NAME, trust_remote_code=True)
        added = provisioning.add(model.folder, "org/copy", trust_remote_code=True)
        assert "code/some-org--jina/bert_layers.py" in files(added.folder)
        assert added.manifest is not None
        assert added.manifest.code == (CodeOrigin(repository=NAME, commit=commit),)

    @pytest.mark.usefixtures("unchecked")
    def test_from_the_cache_of_the_hub(self, folder: Path, tmp_path: Path) -> None:
        """Where Hugging Face's own tools have put the code beside the model, its commit is known."""
        shutil.copytree(folder / VENDORED, tmp_path / "code")
        shutil.rmtree(folder / "code")
        commit = "0123456789" * 4
        cached = checkpoints.hub_cache(tmp_path / "cache", NAME, folder)
        other = tmp_path / "cache" / f"models--{CODE.replace('/', '--')}"
        shutil.copytree(tmp_path / "code", other / "snapshots" / commit)
        (other / "refs").mkdir()
        (other / "refs" / "main").write_text(commit)
        model = provisioning.add(cached, NAME, trust_remote_code=True)
        assert f"{VENDORED}/{MODELING}" in files(model.folder)
        assert _manifest().code == (CodeOrigin(repository=CODE, commit=commit),)

    def test_missing_code(self, folder: Path) -> None:
        """It cannot be fetched from here."""
        (folder / VENDORED / CONFIGURATION).unlink()
        with pytest.raises(IncompleteModelError, match=f"{CONFIGURATION} of {CODE}"):
            provisioning.add(folder, NAME, trust_remote_code=True)
