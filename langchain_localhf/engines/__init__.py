"""How a model runs: one folder an engine, chosen here, the only place that asks whether an engine is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from langchain_localhf.errors import EngineNotInstalledError, UnsupportedModelError

if TYPE_CHECKING:
    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.engines.base import Encoder, Generator
    from langchain_localhf.store.manifest import Manifest

# The engine of each value of `model_kwargs["backend"]`, and the package that shows whether its extra is installed.
_EXTRAS = {"torch": "sentence_transformers"}


def installed(backend: str = "torch") -> bool:
    """Whether the engine's libraries are installed."""
    return find_spec(_EXTRAS[backend]) is not None


def open_encoder(
    checkpoint: Checkpoint,
    *,
    name: str,
    pooling: str | None,
    model_kwargs: dict[str, Any],
    manifest: Manifest | None = None,
    backend: str = "torch",
) -> Encoder:
    """Loads an embedding model with the engine for `backend`.

    Raises:
        UnsupportedModelError: There is no such engine.
        EngineNotInstalledError: Its extra is not installed.
        UninitializedWeightsError: The model would not run with the checkpoint's own weights.
    """
    _require(backend)
    from langchain_localhf.engines.torch.encoder import TorchEncoder  # noqa: PLC0415 - the framework loads on first use

    return TorchEncoder(checkpoint, name=name, pooling=pooling, model_kwargs=model_kwargs, manifest=manifest)


def open_generator(  # noqa: PLR0913 - what a user can say about a model
    checkpoint: Checkpoint,
    *,
    task: str,
    name: str,
    device: int | str | None,
    device_map: str | dict[str, Any] | None,
    batch_size: int | None,
    model_kwargs: dict[str, Any],
    manifest: Manifest | None = None,
    backend: str = "torch",
) -> Generator:
    """Loads a language model with the engine for `backend`.

    Raises:
        UnsupportedModelError: There is no such engine, or the model is for another task.
        EngineNotInstalledError: Its extra is not installed.
        UninitializedWeightsError: The model would not run with the checkpoint's own weights.
    """
    _require(backend, "llguidance")
    from langchain_localhf.engines.torch.generator import TorchGenerator  # noqa: PLC0415 - the framework loads on first use
    from langchain_localhf.engines.torch.language_model import load_language_model  # noqa: PLC0415 - as above

    model = load_language_model(
        checkpoint,
        task=task,
        name=name,
        device=device,
        device_map=device_map,
        model_kwargs=model_kwargs,
        manifest=manifest,
    )
    return TorchGenerator(model, batch_size=batch_size)


def adopt_pipeline(pipeline: object, *, batch_size: int | None) -> Generator:
    """A generator with the model of a user's own transformers pipeline.

    Raises:
        UnsupportedModelError: The pipeline does not generate text.
    """
    _require("torch", "llguidance")
    from langchain_localhf.engines.torch.generator import TorchGenerator  # noqa: PLC0415 - the framework loads on first use
    from langchain_localhf.engines.torch.language_model import adopt  # noqa: PLC0415 - as above

    return TorchGenerator(adopt(pipeline), batch_size=batch_size)


def _require(backend: str, *more: str) -> None:
    """Checks that there is an engine, and that it is installed, with `more` of its packages."""
    if backend not in _EXTRAS:
        msg = f"there is no engine for backend={backend!r}"
        raise UnsupportedModelError(msg, hint=f"use one of {', '.join(_EXTRAS)}")
    if not installed(backend) or not all(map(find_spec, more)):
        msg = f"the {backend} engine is not installed"
        raise EngineNotInstalledError(msg, hint=f'pip install "langchain-localhf[{backend}]"')
