"""The spine: from a name to a running, verified, shared model."""

from __future__ import annotations

import copy
import gc
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from support import checkpoints
from support.checkpoints import COMMIT, edit_json, flip_byte, hub_cache, stored

from langchain_localhf import engines
from langchain_localhf import loaded as loaded_models
from langchain_localhf.engines import golden
from langchain_localhf.errors import (
    CheckpointError,
    IntegrityError,
    ModelNotFoundError,
    UninitializedWeightsError,
)
from langchain_localhf.loading import load_encoder
from langchain_localhf.store.files import MANIFEST_NAME
from langchain_localhf.store.manifest import Manifest, SoundnessCheck, describe

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_localhf.loaded import LoadedEncoder
    from langchain_localhf.store.model_store import LocalModel


def _load(name: str | Path, **settings: Any) -> LoadedEncoder:
    return load_encoder(str(name), model_kwargs={"device": "cpu", **settings})


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that an engine loaded, in order."""
    names: list[str] = []
    original = engines.open_encoder

    def counting(*arguments: Any, **settings: Any) -> Any:
        names.append(settings["name"])
        return original(*arguments, **settings)

    monkeypatch.setattr(engines, "open_encoder", counting)
    return names


@pytest.fixture
def model(store_home: Path, tiny: Path) -> LocalModel:
    """The tiny model in the store, as `org/tiny`."""
    return stored(store_home, "org/tiny", tiny)


class TestIntegrity:
    """No model is handed out whose files are not those that were pulled."""

    @pytest.mark.parametrize("path", ["model.safetensors", "tokenizer.json", "config.json", "1_Pooling/config.json"])
    def test_one_flipped_byte(self, model: LocalModel, path: str) -> None:
        """In the weights it would change vectors and nothing else; elsewhere it explains whatever else fails."""
        flip_byte(model.folder / path, offset=-40)
        with pytest.raises(IntegrityError) as caught:
            _load("org/tiny")
        assert caught.value.changed == (path,)

    def test_everything_that_is_wrong_at_once(self, model: LocalModel) -> None:
        """Changed, missing and extra files are in one error, which wins over what else they break."""
        flip_byte(model.folder / "model.safetensors")
        (model.folder / "tokenizer.json").unlink()
        (model.folder / "evil.py").touch()
        with pytest.raises(IntegrityError) as caught:
            _load("org/tiny")
        error = caught.value
        assert (error.changed, error.missing, error.extra) == (
            ("model.safetensors",),
            ("tokenizer.json",),
            ("evil.py",),
        )
        assert f"localhf pull org/tiny@{COMMIT}" in str(error.hint)

    def test_an_unsound_model_with_its_own_files(self, store_home: Path, tiny: Path) -> None:
        """Where the files are the right ones, the error is what is wrong with them."""
        edit_json(tiny / "config.json", num_hidden_layers=3)
        stored(store_home, "org/tiny", tiny)
        with pytest.raises(UninitializedWeightsError):
            _load("org/tiny")

    def test_nothing_runs_that_was_not_verified(self, model: LocalModel, opened: list[str]) -> None:
        """With trust in its code, a changed model is refused before any of its code can run."""
        flip_byte(model.folder / "model.safetensors")
        with pytest.raises(IntegrityError):
            _load("org/tiny", trust_remote_code=True)
        assert opened == []

    def test_a_folder_that_no_one_described(self, tiny: Path) -> None:
        """A folder without a manifest has nothing to be compared with."""
        flip_byte(tiny / "model.safetensors", offset=-3)
        assert _load(tiny).encoder.dimension == checkpoints.DIMENSION

    def test_a_missing_model_is_found_out_within_a_second(self) -> None:
        """Before any framework is imported, and without the network."""
        started = time.perf_counter()
        with pytest.raises(ModelNotFoundError):
            _load("org/nowhere")
        assert time.perf_counter() - started < 1


class TestGolden:
    """The vectors of the check are those of every later load."""

    @pytest.fixture
    def check(self, model: LocalModel) -> LocalModel:
        """Gives the model in the store golden vectors that it does not give."""
        loaded = _load(model.folder)
        turned = golden.record(-loaded.encoder.probe_vectors)
        check = SoundnessCheck(versions={"torch": "0.1"}, golden=turned)
        _rewrite(model, fingerprint=loaded.fingerprint(), check=check)
        return model

    def test_other_vectors_are_refused(self, check: LocalModel) -> None:
        """The error gives the versions of then and of now, and both ways out."""
        with pytest.raises(CheckpointError, match=r"cosine -1\.0000\); then: torch 0\.1; now: .*torch ") as caught:
            _load(check.name)
        assert f"localhf pull org/tiny@{COMMIT}" in str(caught.value.hint)

    def test_other_settings_are_not_compared(self, check: LocalModel) -> None:
        """Settings that make other vectors are no fault."""
        assert _load(check.name, truncate_dim=8).encoder.dimension == 8

    def test_equal_vectors_pass(self, model: LocalModel) -> None:
        """Half precision is close enough."""
        loaded = _load(model.folder)
        check = SoundnessCheck(versions={}, golden=golden.record(loaded.encoder.probe_vectors))
        _rewrite(model, fingerprint=loaded.fingerprint(), check=check)
        assert _load("org/tiny", model_kwargs={"dtype": torch.bfloat16}).fingerprint() == loaded.fingerprint()

    def test_a_check_without_vectors(self, model: LocalModel) -> None:
        """A model of another kind has none."""
        _rewrite(model, check=SoundnessCheck(versions={}))
        assert _load("org/tiny").encoder.dimension == checkpoints.DIMENSION


def _rewrite(model: LocalModel, **changes: object) -> None:
    manifest = Manifest.read(model.folder)
    assert manifest is not None
    manifest.model_copy(update=changes).write(model.folder)


class TestSharing:
    """Equal requests share one loaded model."""

    def test_equal_settings_share(self, model: LocalModel, opened: list[str]) -> None:
        """Whatever the name: the folder and the settings count. A copy of an object is the same object."""
        one = _load("org/tiny", truncate_dim=8)
        assert _load("org/tiny", truncate_dim=8) is one
        assert _load(model.folder, truncate_dim=8) is one
        assert copy.deepcopy(one) is one
        assert opened == ["org/tiny"]

    def test_other_settings_do_not(self, tiny: Path) -> None:
        """Each set of settings has a model of its own."""
        loaded = [_load(tiny), _load(tiny, truncate_dim=8), _load(tiny, prompts={"query": "q"})]
        assert len({id(one.encoder) for one in loaded}) == 3

    def test_another_pooling_does_not(self, tmp_path: Path) -> None:
        """The stated pooling is a setting, too."""
        folder = str(checkpoints.plain(tmp_path / "plain"))
        mean, cls = (
            load_encoder(folder, pooling=pooling, model_kwargs={"device": "cpu"}) for pooling in ("mean", "cls")
        )
        assert mean is not cls
        assert mean.fingerprint() != cls.fingerprint()

    def test_it_goes_with_its_last_holder(self, tiny: Path) -> None:
        """The model's memory is given back when no one holds it any more."""
        one, other = _load(tiny), _load(tiny)
        encoder = weakref.ref(one.encoder)
        del one
        gc.collect()
        assert encoder() is other.encoder
        del other
        gc.collect()
        assert encoder() is None

    def test_changed_files_are_loaded_anew(self, tiny: Path) -> None:
        """Who asks after a change gets the changed model; who had the old one keeps it."""
        old = _load(tiny)
        before = old.fingerprint()
        checkpoints.edit_weights(tiny, lambda tensors: {name: tensor.flip(0) for name, tensor in tensors.items()})
        new = _load(tiny)
        assert new is not old
        assert new.fingerprint() != before == old.fingerprint()
        assert not np.allclose(new.encoder.probe_vectors, old.encoder.probe_vectors)

    def test_a_file_changed_behind_a_manifest_is_noticed(self, model: LocalModel) -> None:
        """A model that is already loaded does not hide that its files are no longer the right ones."""
        held = _load("org/tiny")
        flip_byte(model.folder / "model.safetensors")
        with pytest.raises(IntegrityError):
            _load("org/tiny")
        assert held.encoder.dimension == checkpoints.DIMENSION

    def test_many_threads_load_once(self, tiny: Path, opened: list[str]) -> None:
        """Who comes while it loads waits and shares it."""
        together = threading.Barrier(6)

        def load(_: int) -> LoadedEncoder:
            together.wait(timeout=30)
            return _load(tiny)

        with ThreadPoolExecutor(6) as pool:
            assert len({id(loaded) for loaded in pool.map(load, range(6))}) == 1
        assert opened == ["tiny"]

    def test_the_users_settings_stay_as_they_are(self, tiny: Path) -> None:
        """Nothing below changes what the user passed, and later changes do not reach the model."""
        settings: dict[str, Any] = {"device": "cpu", "model_kwargs": {"dtype": "float32"}, "revision": None}
        before = copy.deepcopy(settings)
        loaded = load_encoder(str(tiny), model_kwargs=settings)
        assert settings == before
        settings["model_kwargs"]["dtype"] = "bfloat16"
        assert loaded.model_kwargs == before


class TestFingerprint:
    """One model, one fingerprint, wherever it lies."""

    def test_folder_store_and_cache_agree(self, store_home: Path, tiny: Path, tmp_path: Path) -> None:
        """The same bytes are the same model: in a folder, in the store and in a Hugging Face cache."""
        hub_cache(tmp_path / "cache", "org/cached", tiny)
        stored(store_home, "org/stored", tiny)
        cached = load_encoder("org/cached", cache_folder=tmp_path / "cache", model_kwargs={"device": "cpu"})
        assert cached.model.manifest is None
        (tiny / "README.md").write_text("another card")
        assert len({cached.fingerprint(), _load("org/stored").fingerprint(), _load(tiny).fingerprint()}) == 1

    def test_files_are_hashed_once(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A loaded model keeps the hashes of its files; settings are worked in anew each time."""
        loaded = _load(tiny)
        first = loaded.fingerprint({"batch_size": 2})
        monkeypatch.setattr(loaded_models, "describe", None)
        assert loaded.fingerprint() == first
        assert loaded.fingerprint({"truncate_dim": 4}) != first

    def test_files_changed_since_they_were_loaded(self, tiny: Path) -> None:
        """A fingerprint of other files than those that make the vectors would be a lie."""
        loaded = _load(tiny)
        flip_byte(tiny / "model.safetensors")
        (tiny / "merges.txt").touch()
        with pytest.raises(IntegrityError, match="changed after it was loaded") as caught:
            loaded.fingerprint()
        assert caught.value.changed == ("merges.txt", "model.safetensors")

    def test_a_manifest_brings_its_hashes(self, model: LocalModel, tiny: Path) -> None:
        """A verified model is not hashed again."""
        paths = [path for path in _load(tiny).checkpoint.files if path != MANIFEST_NAME]
        assert _load("org/tiny").hashes == {entry.path: entry.sha256 for entry in describe(tiny, paths)}
