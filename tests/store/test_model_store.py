"""The store, and the order in which a model is looked for."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.checkpoints import COMMIT, hub_cache, stored

from langchain_localhf.errors import LockfileError, ModelNotFoundError, ModelReferenceError
from langchain_localhf.store.files import MANIFEST_NAME
from langchain_localhf.store.locations import Locations, from_environment
from langchain_localhf.store.model_store import LocalModel, ModelStore, locate
from langchain_localhf.store.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def store(store_home: Path) -> ModelStore:
    """The store that the environment names; it does not exist yet."""
    return ModelStore(store_home)


def _locate(text: str, cache_folder: Path | None = None) -> LocalModel:
    return locate(Reference.parse(text), from_environment(cache_folder))


class TestModelStore:
    """What the store itself does."""

    def test_put_find_list_remove(self, store: ModelStore, tiny: Path) -> None:
        """A model that was put is found and listed, until it is removed; its organisation's folder goes with it."""
        for name in ("org/b", "org/a", "bare"):
            stored(store.home, name, tiny)
        assert store.names() == ["bare", "org/a", "org/b"]
        assert [model.name for model in store.models()] == ["bare", "org/a", "org/b"]
        found = store.find("org/a")
        assert found is not None
        assert (found.folder, found.manifest and found.manifest.name) == (store.home / "org" / "a", "org/a")
        assert store.remove("org/a").name == "org/a"
        assert (store.find("org/a"), store.names()) == (None, ["bare", "org/b"])
        store.remove("org/b")
        assert not (store.home / "org").exists()

    def test_a_new_version_replaces_the_old_one(self, store: ModelStore, tiny: Path) -> None:
        """Files that the new version does not have are gone."""
        stored(store.home, "org/a", tiny)
        (tiny / "README.md").unlink()
        model = stored(store.home, "org/a", tiny, revision="v2")
        assert model.manifest is not None
        assert model.manifest.revision == "v2"
        assert not (model.folder / "README.md").exists()
        assert os.listdir(store.home / ".partial") == []  # noqa: PTH208 - hidden files count

    def test_a_failed_replacement_leaves_the_old_one(self, store: ModelStore, tiny: Path) -> None:
        """If the new folder cannot be moved, the old one is put back."""
        stored(store.home, "org/a", tiny)
        with pytest.raises(FileNotFoundError):
            store.put("org/a", store.home / "nowhere")
        with pytest.raises(FileNotFoundError):
            store.put("org/b", store.home / "nowhere")
        assert store.names() == ["org/a"]

    def test_removing_what_is_not_there(self, store: ModelStore, tiny: Path) -> None:
        """The error names the store, and the name that was probably meant."""
        with pytest.raises(ModelNotFoundError, match="is not in the store") as caught:
            store.remove("org/tini")
        assert caught.value.hint == "`localhf list` shows what is there"
        stored(store.home, "org/tiny", tiny)
        with pytest.raises(ModelNotFoundError) as caught:
            store.remove("org/tini")
        assert caught.value.hint == "did you mean org/tiny?"

    @pytest.mark.parametrize("name", ["../x", "/etc", "a/b/c", "..", ".partial/x", ""])
    @pytest.mark.parametrize("action", [ModelStore.find, ModelStore.folder, ModelStore.remove])
    def test_no_name_leads_out_of_the_store(
        self, store: ModelStore, name: str, action: Callable[[ModelStore, str], object]
    ) -> None:
        """Names reach the store from lockfiles and command lines, and become paths."""
        with pytest.raises(ModelReferenceError):
            action(store, name)

    def test_a_damaged_manifest_is_named(self, store: ModelStore, tiny: Path) -> None:
        """Finding or listing it fails; the names can still be listed."""
        model = stored(store.home, "org/a", tiny)
        (model.folder / MANIFEST_NAME).write_text("{")
        with pytest.raises(LockfileError, match=r"org/a/localhf\.json"):
            store.models()
        assert store.names() == ["org/a"]

    def test_readers_beside_a_writer(self, store: ModelStore, tiny: Path) -> None:
        """While a model is replaced again and again, a reader finds a whole one or, for an instant, none."""
        stored(store.home, "org/a", tiny)
        with ThreadPoolExecutor(3) as pool:
            writing = pool.submit(lambda: [stored(store.home, "org/a", tiny) for _ in range(5)])
            seen = []
            while not writing.done():
                seen += [model for model in pool.map(store.find, ["org/a"] * 2) if model]
        assert len(writing.result()) == 5
        assert {model.manifest for model in seen if model.manifest} == {seen[0].manifest}

    def test_a_lock_waits_for_its_holder(self, store: ModelStore) -> None:
        """The second one is told that it waits, and goes on when the first is done."""
        order = []

        def second() -> None:
            with store.locked("org/a", on_wait=lambda: order.append("waits")):
                order.append("second")

        with ThreadPoolExecutor(1) as pool:
            with store.locked("org/a"):
                waiting = pool.submit(second)
                while not order:
                    time.sleep(0.01)
                order.append("first")
            waiting.result(timeout=10)
        assert order == ["waits", "first", "second"]

    def test_a_lock_waits_in_silence(self, store: ModelStore) -> None:
        """Nobody has to be told."""
        with ThreadPoolExecutor(1) as pool:
            with store.locked("org/a"):
                waiting = pool.submit(lambda: store.locked("org/a").__enter__())
                time.sleep(0.05)
                assert not waiting.done()
            waiting.result(timeout=10)


class TestLocate:
    """Where a model is looked for."""

    def test_a_folder_comes_first(self, store: ModelStore, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder named like the repository wins over the store."""
        stored(store.home, "org/tiny", tiny)
        shutil.copytree(tiny, tiny.parent / "org" / "tiny")
        monkeypatch.chdir(tiny.parent)
        model = _locate("org/tiny")
        assert (model.folder, model.name, model.manifest) == (tiny.parent / "org" / "tiny", "tiny", None)

    def test_a_folder_of_a_store_keeps_its_name(self, store: ModelStore, tiny: Path) -> None:
        """A folder with a manifest is that model wherever it was copied to."""
        folder = stored(store.home, "org/tiny", tiny).folder.rename(tiny.parent / "copied")
        model = _locate(str(folder))
        assert (model.name, model.manifest is not None) == ("org/tiny", True)

    def test_the_store_comes_before_the_caches_and_they_have_an_order(
        self, home: Path, store: ModelStore, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Store, `cache_folder`, `SENTENCE_TRANSFORMERS_HOME`, `HF_HUB_CACHE`, `HF_HOME`: each wins over the next."""
        monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path / "st"))
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        caches = [tmp_path / "hf" / "hub", tmp_path / "hub", tmp_path / "st", tmp_path / "argument"]
        for cache in caches:
            snapshot = hub_cache(cache, "org/tiny", tiny)
            assert _locate("org/tiny", tmp_path / "argument").folder == snapshot
        model = stored(store.home, "org/tiny", tiny)
        assert _locate("org/tiny", tmp_path / "argument") == model
        assert home in model.folder.parents

    def test_the_default_cache(self, home: Path, tiny: Path) -> None:
        """Without any setting the hub's own default counts; a bare name gets its organisation."""
        snapshot = hub_cache(home / ".cache" / "huggingface" / "hub", "sentence-transformers/tiny", tiny)
        assert _locate("tiny") == LocalModel("sentence-transformers/tiny", snapshot)

    def test_a_bare_repository(self, store: ModelStore, tiny: Path) -> None:
        """A repository without an organisation is found under its own name."""
        assert stored(store.home, "gpt2", tiny) == _locate("gpt2")

    @pytest.mark.parametrize("revision", ["main", COMMIT, COMMIT[:7]])
    def test_revisions_that_the_store_holds(self, store: ModelStore, tiny: Path, revision: str) -> None:
        """The branch that was pulled, its commit, and the start of the commit."""
        assert _locate_revision(stored(store.home, "org/tiny", tiny).name, revision).folder == store.home / "org/tiny"

    @pytest.mark.parametrize("revision", ["v2", COMMIT[:6], "f" * 40])
    def test_another_revision_is_not_found(self, store: ModelStore, tiny: Path, revision: str) -> None:
        """One revision at a time: the error says which one is here, and the command pulls the other."""
        stored(store.home, "org/tiny", tiny)
        with pytest.raises(ModelNotFoundError, match=f"holds main {COMMIT[:12]}") as caught:
            _locate_revision("org/tiny", revision)
        assert f"localhf pull org/tiny@{revision}" in str(caught.value)

    def test_an_added_model_has_no_revision(self, store: ModelStore, tiny: Path) -> None:
        """A revision of a folder that someone added cannot be known."""
        stored(store.home, "org/tiny", tiny, source="folder", revision=None, commit=None)
        with pytest.raises(ModelNotFoundError, match="holds an added folder"):
            _locate_revision("org/tiny", "main")

    def test_another_revision_can_be_in_a_cache(self, store: ModelStore, tiny: Path, tmp_path: Path) -> None:
        """The lookup goes on where the store holds another revision."""
        stored(store.home, "org/tiny", tiny)
        snapshot = hub_cache(tmp_path / "cache", "org/tiny", tiny, ref="v2")
        assert locate(Reference.parse("org/tiny@v2"), from_environment(tmp_path / "cache")).folder == snapshot

    def test_not_found_within_a_second_with_everything_that_helps(
        self, store: ModelStore, tiny: Path, tmp_path: Path
    ) -> None:
        """Every place, the exact command, and a near miss; nothing is downloaded."""
        stored(store.home, "sentence-transformers/all-MiniLM-L6-v2", tiny)
        started = time.perf_counter()
        with pytest.raises(ModelNotFoundError) as caught:
            _locate("all-MiniLM-L12-v2", tmp_path / "cache")
        assert time.perf_counter() - started < 1
        assert caught.value.looked_in == (
            f"folder {Path.cwd() / 'all-MiniLM-L12-v2'}",
            f"store {store.home / 'sentence-transformers' / 'all-MiniLM-L12-v2'}",
            f"store {store.home / 'all-MiniLM-L12-v2'}",
            f"cache {tmp_path / 'cache'}",
            f"cache {store.home.parent / 'huggingface' / 'hub'}",
        )
        assert caught.value.hint == (
            "bring it here once, with a network: localhf pull all-MiniLM-L12-v2\n"
            "      or did you mean sentence-transformers/all-MiniLM-L6-v2, which is here?"
        )
        assert all(place in caught.value.message for place in caught.value.looked_in)

    def test_a_damaged_neighbour_does_not_hide_the_error(self, store: ModelStore, tiny: Path) -> None:
        """The near miss is found by its name alone."""
        (stored(store.home, "org/tiny", tiny).folder / MANIFEST_NAME).write_text("{")
        with pytest.raises(ModelNotFoundError, match="did you mean org/tiny"):
            _locate("org/tini")

    def test_without_a_home_folder(self) -> None:
        """No store and no cache is no crash."""
        with pytest.raises(ModelNotFoundError) as caught:
            locate(Reference.parse("org/tiny"), Locations(store=None))
        assert caught.value.looked_in == (f"folder {Path.cwd() / 'org' / 'tiny'}",)


def _locate_revision(name: str, revision: str) -> LocalModel:
    return locate(Reference.parse(name, revision=revision), from_environment())


# Everything is read-only but for an empty TMPDIR in memory, without which torch itself cannot be imported.
_READ_ONLY = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -o remount,bind,ro "$1"
mount -t tmpfs tmpfs "$TMPDIR"
mount -o remount,bind,ro /
if touch "$1/probe" /probe 2>/dev/null; then exit 99; fi
shift
exec "$@"
"""
_LOAD = """
import json, sys
from langchain_localhf.embeddings import HuggingFaceEmbeddings
embeddings = HuggingFaceEmbeddings(model_name=sys.argv[1], model_kwargs={"device": "cpu"})
print(json.dumps(embeddings.embed_query("the weather is nice")))
"""


def test_a_read_only_file_system_without_a_home(store: ModelStore, tiny: Path, tmp_path: Path) -> None:
    """Finding, verifying, loading and using a model writes nothing and needs no `$HOME`."""
    stored(store.home, "org/tiny", tiny)
    environment = {"PATH": os.environ["PATH"], "LOCALHF_HOME": str(store.home), "TMPDIR": str(tmp_path)}

    def run_read_only(*command: str) -> subprocess.CompletedProcess[str]:
        private = ["unshare", "--mount", "sh", "-c", _READ_ONLY, "sh", str(store.home), *command]
        return subprocess.run(private, env=environment, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603

    allowed = run_read_only("true")
    if allowed.returncode not in (0, 99):
        pytest.skip(f"the kernel lets this user make no mounts: {allowed.stderr.strip()}")
    result = run_read_only(sys.executable, "-c", _LOAD, "org/tiny")
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)) == 32
