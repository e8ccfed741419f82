"""The spine: how a model name becomes a running model.

1. `store.reference` reads the name: a folder or a repository.
2. `store.model_store` finds the folder; from here on there is only a folder.
3. `store.manifest` compares its files with what was pulled, if anyone wrote that down.
4. `checkpoint` reads what the files say and refuses what is incomplete or unsafe.
5. `engines` load it and prove it sound.

Equal requests share one loaded model.
"""

from __future__ import annotations

import contextlib
import copy
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

from langchain_localhf import engines
from langchain_localhf.checkpoint.checkpoint import Checkpoint, auto_model_for
from langchain_localhf.checkpoint.fingerprint import fingerprint, shaping_files
from langchain_localhf.engines import golden
from langchain_localhf.errors import CheckpointError, IntegrityError
from langchain_localhf.store import files as model_files
from langchain_localhf.store import locations
from langchain_localhf.store.manifest import compare, describe
from langchain_localhf.store.model_store import LocalModel, locate
from langchain_localhf.store.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from langchain_localhf.engines.base import Encoder, Generator

FileState = dict[str, tuple[int, ...]]
_Loaded = TypeVar("_Loaded", bound="LoadedModel")


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model that runs, and where it came from. Several objects may hold the same one.

    Attributes:
        model: The model's name, folder and manifest.
        checkpoint: What its files say.
        settings: The settings it was loaded with.
        file_state: What shows, for each file by its path, whether it is still the one that was loaded.
    """

    model: LocalModel
    checkpoint: Checkpoint
    settings: dict[str, Any]
    file_state: FileState

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: copies of the object that holds it share the model."""
        return self


@dataclass(frozen=True, eq=False)
class LoadedGenerator(LoadedModel):
    """A language model that runs.

    Attributes:
        generator: The engine that runs it.
    """

    generator: Generator


@dataclass(frozen=True, eq=False)
class LoadedEncoder(LoadedModel):
    """An embedding model that runs.

    Attributes:
        encoder: The engine that runs it.
        pooling: The pooling that the user stated for a plain transformer checkpoint.
        model_kwargs: What was passed on to sentence-transformers.
    """

    encoder: Encoder
    pooling: str | None
    model_kwargs: dict[str, Any]

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each file, by path: from the manifest, else computed now.

        Raises:
            IntegrityError: There is no manifest, and the files are no longer those that were loaded.
        """
        if self.model.manifest is not None:
            return self.model.manifest.hashes
        paths = shaping_files(self.checkpoint, self.checkpoint.files)
        changed = dict(self.file_state.items() ^ _file_state(self.model).items())
        if changed:
            msg = f"files of {self.model.folder} were changed after it was loaded: {', '.join(sorted(changed))}"
            raise IntegrityError(msg, changed=sorted(changed), hint="make a new object to load them as they are now")
        return {entry.path: entry.sha256 for entry in describe(self.checkpoint.folder, paths)}

    def fingerprint(self, encode_kwargs: Mapping[str, Any] | None = None) -> str:
        """What identifies the vectors of documents that are encoded with these settings."""
        return fingerprint(
            self.checkpoint,
            self.hashes,
            pooling=self.pooling,
            model_kwargs=self.model_kwargs,
            encode_kwargs=encode_kwargs,
        )


_lock = threading.Lock()
_shared: weakref.WeakSet[LoadedModel] = weakref.WeakSet()


def load_encoder(
    model_name: str,
    *,
    cache_folder: str | Path | None = None,
    pooling: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> LoadedEncoder:
    """Loads an embedding model that is on this machine, or hands out the one that an equal request loaded.

    Args:
        model_name: A folder, `org/name`, or `org/name@revision`.
        cache_folder: A Hugging Face cache to look into before the others.
        pooling: How a plain transformer checkpoint makes one vector of its token vectors.
        model_kwargs: What `SentenceTransformer(...)` takes; never changed.

    Raises:
        ModelReferenceError: The name cannot be read.
        ModelNotFoundError: The model is not on this machine; nothing is downloaded.
        IntegrityError: Its files differ from its manifest.
        CheckpointError: Its files are incomplete, unsafe, or would not run with their own weights.
        EngineError: Its engine is not installed, or cannot run it here.
    """
    settings: dict[str, Any] = {"pooling": pooling, "model_kwargs": copy.deepcopy(dict(model_kwargs or {}))}
    model = _locate(model_name, cache_folder, settings["model_kwargs"])
    return _once(LoadedEncoder, model, settings, lambda: open_model(model, **settings))


def load_generator(
    model_id: str,
    *,
    task: str,
    backend: str = "torch",
    device: int | str | None = None,
    device_map: str | dict[str, Any] | None = None,
    batch_size: int | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
) -> LoadedGenerator:
    """Loads a language model that is on this machine, or hands out the one that an equal request loaded.

    Args:
        model_id: A folder, `org/name`, or `org/name@revision`.
        task: What it is used for, such as `text-generation`.
        backend: The engine.
        device: A number for a GPU, -1 for the CPU, or a name as torch knows it; None for the first GPU, if any.
        device_map: How accelerate spreads the model over devices.
        batch_size: How many prompts run together at most; None for as many as pay.
        model_kwargs: What `from_pretrained` takes; never changed.

    Raises:
        ModelReferenceError: The name cannot be read.
        ModelNotFoundError: The model is not on this machine; nothing is downloaded.
        IntegrityError: Its files differ from its manifest.
        InputError: A setting is unknown, or two of them contradict each other.
        CheckpointError: Its files are incomplete, unsafe, for another task, or would not run with their own weights.
        EngineError: Its engine is not installed, or cannot run it here.
    """
    settings: dict[str, Any] = {
        "task": task,
        "backend": backend,
        "device": device,
        "device_map": copy.deepcopy(device_map),
        "batch_size": batch_size,
        "model_kwargs": copy.deepcopy(dict(model_kwargs or {})),
    }
    model = _locate(model_id, settings["model_kwargs"].get("cache_dir"), settings["model_kwargs"])
    return _once(LoadedGenerator, model, settings, lambda: _open_generator(model, settings))


def _locate(name: str, cache_folder: str | Path | None, model_kwargs: Mapping[str, Any]) -> LocalModel:
    reference = Reference.parse(name, revision=model_kwargs.get("revision"))
    return locate(reference, locations.from_environment(cache_folder))


def _once(kind: type[_Loaded], model: LocalModel, settings: dict[str, Any], load: Callable[[], _Loaded]) -> _Loaded:
    """The model that an equal request loaded, if it is still in use; else a new one."""
    with _lock:
        state = _file_state(model)
        for loaded in _shared:
            same = (loaded.model.folder, loaded.file_state) == (model.folder, state)
            if same and isinstance(loaded, kind) and loaded.settings == settings:
                return loaded
        loaded = load()
        _shared.add(loaded)
        return loaded


def _open_generator(model: LocalModel, settings: dict[str, Any]) -> LoadedGenerator:
    """Checks, loads and proves the language model in a folder; steps 3 to 5 above, without sharing."""
    state = _file_state(model)
    trusted = bool(settings["model_kwargs"].get("trust_remote_code", False))
    with _verified(model, at_once=trusted):
        checkpoint = Checkpoint.read(model.folder)
        _require_trust(checkpoint, model, trusted=trusted, auto_model=auto_model_for(settings["task"]) or "AutoModel")
        checkpoint.require_language_model()
        generator = engines.open_generator(
            checkpoint, name=model.name, manifest=model.manifest, **copy.deepcopy(settings)
        )
    return LoadedGenerator(model, checkpoint, settings, state, generator)


def open_model(model: LocalModel, *, pooling: str | None, model_kwargs: dict[str, Any]) -> LoadedEncoder:
    """Checks, loads and proves the embedding model in a folder; steps 3 to 5 above, without sharing.

    Raises:
        IntegrityError: Its files differ from its manifest.
        CheckpointError: Its files are incomplete, unsafe, or would not run with their own weights.
        EngineError: Its engine is not installed, or cannot run it here.
    """
    state = _file_state(model)
    trusted = bool(model_kwargs.get("trust_remote_code", False))
    with _verified(model, at_once=trusted):  # code runs only after its hash was compared
        checkpoint = Checkpoint.read(model.folder)
        _require_trust(checkpoint, model, trusted=trusted)
        checkpoint.require_encoder(pooling=pooling)
        encoder = engines.open_encoder(
            checkpoint,
            name=model.name,
            pooling=pooling,
            model_kwargs=copy.deepcopy(model_kwargs),
            manifest=model.manifest,
            backend=model_kwargs.get("backend", "torch"),
        )
    settings = {"pooling": pooling, "model_kwargs": model_kwargs}
    loaded = LoadedEncoder(model, checkpoint, settings, state, encoder, pooling, model_kwargs)
    _compare_with_golden(loaded)
    return loaded


def _require_trust(checkpoint: Checkpoint, model: LocalModel, *, trusted: bool, auto_model: str = "AutoModel") -> None:
    checkpoint.require_trust(
        trust_remote_code=trusted,
        auto_model=auto_model,
        name=model.name if "/" in model.name else None,  # else it is a folder's
        commits=model.manifest.commits if model.manifest else None,
        bring="" if model.manifest and model.manifest.trust_remote_code else None,
    )


@contextlib.contextmanager
def _verified(model: LocalModel, *, at_once: bool) -> Iterator[None]:
    """Compares the model's files with its manifest, if it has one, while it loads.

    Hashing runs beside the imports and the loading, which leave a core idle; nobody gets the model before both are
    done. A file that was changed explains whatever else goes wrong, so it is what the user hears of.
    """
    if model.manifest is None:
        yield
        return
    with ThreadPoolExecutor(1) as background:
        differences = background.submit(compare, model.folder, model.manifest)
        try:
            if not (at_once and differences.result()):
                yield
        finally:
            if found := differences.result():
                raise found.as_error(model.manifest)


def _compare_with_golden(loaded: LoadedEncoder) -> None:
    manifest = loaded.model.manifest
    if manifest is None or manifest.check is None or manifest.check.golden is None:
        return
    if loaded.fingerprint() != manifest.fingerprint:  # other settings, other vectors
        return
    cosine = golden.lowest_cosine(loaded.encoder.probe_vectors, manifest.check.golden)
    if cosine < golden.MIN_COSINE:
        msg = (
            f"{manifest.name} gives other vectors than when it was checked (cosine {cosine:.4f}); "
            f"then: {_versions(manifest.check.versions)}; now: {_versions(loaded.encoder.versions)}"
        )
        hint = f"install the versions from then, or check the model anew with these: {manifest.origin_command}"
        raise CheckpointError(msg, hint=hint)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _file_state(model: LocalModel) -> FileState:
    stats = {path: (model.folder / path).stat() for path in model_files.files_in(model.folder)}
    return {path: (status.st_ino, status.st_size, status.st_mtime_ns) for path, status in stats.items()}
