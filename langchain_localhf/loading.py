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
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_localhf import engines
from langchain_localhf.checkpoint.checkpoint import Checkpoint, auto_model_for
from langchain_localhf.errors import IncompleteModelError
from langchain_localhf.loaded import (
    FileState,
    LoadedEncoder,
    LoadedGenerator,
    LoadedModel,
    LoadedScorer,
    compare_with_golden,
    file_state_of,
)
from langchain_localhf.store import locations
from langchain_localhf.store.manifest import compare
from langchain_localhf.store.model_store import LocalModel, locate
from langchain_localhf.store.reference import CROSS_ENCODERS, DEFAULT_ORGANISATION, Reference, expand_user

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_Loaded = TypeVar("_Loaded", bound="LoadedModel")
_lock = threading.Lock()
_shared: weakref.WeakSet[LoadedModel] = weakref.WeakSet()


def load_encoder(
    model_name: str,
    *,
    cache_folder: str | Path | None = None,
    pooling: str | None = None,
    backend: str = "auto",
    model_kwargs: Mapping[str, Any] | None = None,
) -> LoadedEncoder:
    """Loads an embedding model that is on this machine, or hands out the one that an equal request loaded.

    Args:
        model_name: A folder, `org/name`, or `org/name@revision`.
        cache_folder: A Hugging Face cache to look into before the others.
        pooling: How a plain transformer checkpoint makes one vector of its token vectors.
        backend: The engine; `auto` for the compiled graph, if there is one that does what is asked, else torch.
        model_kwargs: What `SentenceTransformer(...)` takes; never changed.

    Raises:
        ModelReferenceError: The name cannot be read.
        ModelNotFoundError: The model is not on this machine; nothing is downloaded.
        IntegrityError: Its files differ from its manifest.
        CheckpointError: Its files are incomplete, unsafe, or would not run with their own weights.
        EngineError: Its engine is not installed, or cannot run it here.
    """
    settings: dict[str, Any] = {
        "pooling": pooling,
        "backend": backend,
        "model_kwargs": copy.deepcopy(dict(model_kwargs or {})),
    }
    model = _locate(model_name, cache_folder, settings["model_kwargs"])
    return _once(LoadedEncoder, model, settings, lambda: open_model(model, **settings))


def load_scorer(
    model_name: str,
    *,
    cache_folder: str | Path | None = None,
    backend: str = "auto",
    model_kwargs: Mapping[str, Any] | None = None,
) -> LoadedScorer:
    """Loads a cross-encoder that is on this machine, or hands out the one that an equal request loaded.

    Args:
        model_name: A folder, `org/name`, or `org/name@revision`.
        cache_folder: A Hugging Face cache to look into before the others.
        backend: The engine; `auto` for the compiled graph, if there is one that does what is asked, else torch.
        model_kwargs: What `CrossEncoder(...)` takes; never changed.

    Raises:
        LocalHFError: As for `load_encoder`.
    """
    settings: dict[str, Any] = {"backend": backend, "model_kwargs": copy.deepcopy(dict(model_kwargs or {}))}
    model = _locate(model_name, cache_folder, settings["model_kwargs"], CROSS_ENCODERS)
    return _once(LoadedScorer, model, settings, lambda: open_scorer(model, **settings))


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
    file = expand_user(Path(model_id)) if backend == "openvino" and str(model_id).endswith(".gguf") else None
    if file is not None and file.is_file():
        model = LocalModel(file.stem, file.absolute())
    else:
        model = _locate(model_id, settings["model_kwargs"].get("cache_dir"), settings["model_kwargs"])
    return _once(LoadedGenerator, model, settings, lambda: _open_generator(model, settings))


def _locate(
    name: str,
    cache_folder: str | Path | None,
    model_kwargs: Mapping[str, Any],
    organisation: str = DEFAULT_ORGANISATION,
) -> LocalModel:
    reference = Reference.parse(name, revision=model_kwargs.get("revision"), organisation=organisation)
    return locate(reference, locations.from_environment(cache_folder))


def _once(kind: type[_Loaded], model: LocalModel, settings: dict[str, Any], load: Callable[[], _Loaded]) -> _Loaded:
    """The model that an equal request loaded, if it is still in use; else a new one."""
    with _lock:
        state = file_state_of(model)
        for loaded in _shared:
            same = (loaded.model.folder, loaded.file_state) == (model.folder, state)
            if same and isinstance(loaded, kind) and loaded.settings == settings:
                return loaded
        loaded = load()
        _shared.add(loaded)
        return loaded


def _open_generator(model: LocalModel, settings: dict[str, Any]) -> LoadedGenerator:
    """Checks, loads and proves the language model in a folder; steps 3 to 5 above, without sharing."""
    state = file_state_of(model)
    if settings["backend"] == "openvino":
        return _open_openvino_generator(model, settings, state)
    trusted = bool(settings["model_kwargs"].get("trust_remote_code", False))
    with _verified(model, at_once=trusted):
        checkpoint = Checkpoint.read(model.folder)
        _require_trust(checkpoint, model, trusted=trusted, auto_model=auto_model_for(settings["task"]) or "AutoModel")
        checkpoint.require_language_model()
        generator = engines.open_generator(
            checkpoint, name=model.name, manifest=model.manifest, **copy.deepcopy(settings)
        )
    return LoadedGenerator(model, checkpoint, settings, state, generator)


def _open_openvino_generator(model: LocalModel, settings: dict[str, Any], state: FileState) -> LoadedGenerator:
    """As `_open_generator`; there is no code that could run, and no safetensors are asked for."""
    checkpoint = Checkpoint(model.folder)
    with _verified(model, at_once=False, compiled_only=True):
        generator = engines.open_generator(
            checkpoint, name=model.name, manifest=model.manifest, **copy.deepcopy(settings)
        )
    return LoadedGenerator(model, checkpoint, settings, state, generator)


def open_model(
    model: LocalModel, *, pooling: str | None, model_kwargs: dict[str, Any], backend: str = "torch"
) -> LoadedEncoder:
    """Checks, loads and proves the embedding model in a folder; steps 3 to 5 above, without sharing.

    Raises:
        IntegrityError: Its files differ from its manifest.
        CheckpointError: Its files are incomplete, unsafe, or would not run with their own weights.
        EngineError: Its engine is not installed, or cannot run it here.
    """
    state = file_state_of(model)
    with _chosen(model, backend, pooling=pooling, model_kwargs=model_kwargs) as (checkpoint, engine):
        checkpoint.require_encoder(pooling=pooling, weights=engine != "openvino")
        encoder = engines.open_encoder(
            checkpoint,
            name=model.name,
            pooling=pooling,
            model_kwargs=copy.deepcopy(model_kwargs),
            manifest=model.manifest,
            backend=engine,
        )
    settings = {"pooling": pooling, "backend": backend, "model_kwargs": model_kwargs}
    loaded = LoadedEncoder(model, checkpoint, settings, state, encoder, pooling, model_kwargs, engine == "openvino")
    compare_with_golden(loaded)
    return loaded


def open_scorer(model: LocalModel, *, model_kwargs: dict[str, Any], backend: str = "torch") -> LoadedScorer:
    """Checks, loads and proves the cross-encoder in a folder; steps 3 to 5 above, without sharing.

    Raises:
        IntegrityError: Its files differ from its manifest.
        CheckpointError: Its files are incomplete, unsafe, or would not run with their own weights.
        EngineError: Its engine is not installed, or cannot run it here.
    """
    state = file_state_of(model)
    with _chosen(model, backend, pooling=None, model_kwargs=model_kwargs) as (checkpoint, engine):
        checkpoint.require_scorer(weights=engine != "openvino")
        scorer = engines.open_scorer(
            checkpoint,
            name=model.name,
            model_kwargs=copy.deepcopy(model_kwargs),
            manifest=model.manifest,
            backend=engine,
        )
    settings = {"backend": backend, "model_kwargs": model_kwargs}
    loaded = LoadedScorer(model, checkpoint, settings, state, scorer, model_kwargs, engine == "openvino")
    compare_with_golden(loaded)
    return loaded


@contextlib.contextmanager
def _chosen(
    model: LocalModel, backend: str, *, pooling: str | None, model_kwargs: dict[str, Any]
) -> Iterator[tuple[Checkpoint, str]]:
    """What the files say, and the engine for them; what that engine runs is verified while it loads."""
    engine = engines.choose_encoder(
        backend, name=model.name, manifest=model.manifest, pooling=pooling, model_kwargs=model_kwargs
    )
    is_compiled, trusted = engine == "openvino", bool(model_kwargs.get("trust_remote_code", False))
    # Code runs only after its hash was compared; in a graph there is none.
    with _verified(model, at_once=trusted and not is_compiled, compiled_only=is_compiled):
        checkpoint = Checkpoint.read(model.folder)
        if not is_compiled:
            _require_trust(checkpoint, model, trusted=trusted)
        yield checkpoint, engine


def _require_trust(checkpoint: Checkpoint, model: LocalModel, *, trusted: bool, auto_model: str | None = None) -> None:
    checkpoint.require_trust(
        trust_remote_code=trusted,
        auto_model=auto_model,
        name=model.name if "/" in model.name else None,  # else it is a folder's
        commits=model.manifest.commits if model.manifest else None,
        bring="" if model.manifest and model.manifest.trust_remote_code else None,
    )


@contextlib.contextmanager
def _verified(model: LocalModel, *, at_once: bool, compiled_only: bool = False) -> Iterator[None]:
    """Compares the model's files with its manifest, if it has one, while it loads.

    Hashing runs beside the imports and the loading, which leave a core idle; nobody gets the model before both are
    done. A file that was changed explains whatever else goes wrong, so it is what the user hears of.
    """
    if model.manifest is None:
        yield
        return
    if model.manifest.packed and not compiled_only:
        msg = f"{model.name} was packed without its weights, so only the openvino engine can run it"
        raise IncompleteModelError(msg, missing=(), hint='use backend="openvino", or pull the whole model')
    with ThreadPoolExecutor(1) as background:
        differences = background.submit(compare, model.folder, model.manifest, compiled_only=compiled_only)
        try:
            if not (at_once and differences.result()):
                yield
        finally:
            if found := differences.result():
                raise found.as_error(model.manifest)
