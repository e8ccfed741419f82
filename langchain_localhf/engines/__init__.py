"""How a model runs: one folder an engine, chosen here, the only place that asks whether an engine is installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from langchain_localhf.engines import choice
from langchain_localhf.errors import EngineNotInstalledError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.engines.base import Encoder, Generator, Scorer
    from langchain_localhf.engines.compiling import Compiled
    from langchain_localhf.store.compilation import Parity, Precision, ScoreParity
    from langchain_localhf.store.manifest import Manifest

# The engine of each value of `model_kwargs["backend"]`, and the package that shows whether its extra is installed.
_EXTRAS = {"torch": "sentence_transformers", "openvino": "openvino"}


def installed(backend: str = "torch") -> bool:
    """Whether the engine's libraries are installed."""
    return find_spec(_EXTRAS[backend]) is not None


def choose_encoder(
    backend: str,
    *,
    name: str,
    manifest: Manifest | None,
    pooling: str | None,
    model_kwargs: Mapping[str, Any],
) -> str:
    """The engine that runs an embedding model as it is asked for; see `engines.choice`.

    Raises:
        InputError: Settings contradict each other.
        UnsupportedModelError: A graph is asked for, and there is none.
    """
    return choice.choose_encoder(
        backend, name=name, manifest=manifest, pooling=pooling, model_kwargs=model_kwargs, installed=installed
    )


def open_encoder(
    checkpoint: Checkpoint,
    *,
    name: str,
    pooling: str | None,
    model_kwargs: dict[str, Any],
    manifest: Manifest | None = None,
    backend: str = "torch",
) -> Encoder:
    """Loads an embedding model with the engine for `backend`, as `choice.choose_encoder` names it.

    Raises:
        UnsupportedModelError: There is no such engine.
        EngineNotInstalledError: Its extra is not installed.
        UninitializedWeightsError: The model would not run with the checkpoint's own weights.
    """
    _require(backend)
    if backend == "openvino":
        from langchain_localhf.engines.openvino.encoder import OpenVINOEncoder  # noqa: PLC0415 - it loads on first use

        return OpenVINOEncoder(checkpoint, model_kwargs=model_kwargs)
    if checkpoint.image_folder is not None and find_spec("PIL") is None:  # transformers cannot even load it
        msg = f"{name} reads images, too, for which Pillow is needed"
        raise EngineNotInstalledError(msg, hint='pip install "langchain-localhf[image]"')
    from langchain_localhf.engines.torch.encoder import TorchEncoder  # noqa: PLC0415 - the framework loads on first use

    return TorchEncoder(checkpoint, name=name, pooling=pooling, model_kwargs=model_kwargs, manifest=manifest)


def open_scorer(
    checkpoint: Checkpoint,
    *,
    name: str,
    model_kwargs: dict[str, Any],
    manifest: Manifest | None = None,
    backend: str = "torch",
) -> Scorer:
    """Loads a cross-encoder with the engine for `backend`, as `choose_encoder` names it, which is for both.

    Raises:
        UnsupportedModelError: There is no such engine.
        EngineNotInstalledError: Its extra is not installed.
        UninitializedWeightsError: The model would not run with the checkpoint's own weights.
    """
    _require(backend)
    if backend == "openvino":
        from langchain_localhf.engines.openvino.scorer import OpenVINOScorer  # noqa: PLC0415 - it loads on first use

        return OpenVINOScorer(checkpoint, model_kwargs=model_kwargs)
    from langchain_localhf.engines.torch.scorer import TorchScorer  # noqa: PLC0415 - the framework loads on first use

    return TorchScorer(checkpoint, name=name, model_kwargs=model_kwargs, manifest=manifest)


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
    if backend == "openvino":
        _require(backend, "openvino_genai", "jinja2", "llguidance")
        from langchain_localhf.engines.openvino.generator import OpenVINOGenerator  # noqa: PLC0415 - it loads on first use

        return OpenVINOGenerator(
            checkpoint.folder,
            task=task,
            name=name,
            device=device,
            device_map=device_map,
            batch_size=batch_size,
            model_kwargs=model_kwargs,
        )
    is_compiled = manifest is not None and manifest.compiled is not None
    _require(backend, "llguidance", instead=', or run what was compiled: backend="openvino"' if is_compiled else "")
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


def require_compiling() -> None:
    """Checks that both engines are installed, for what is compiled for the one is compared with the other.

    Raises:
        EngineNotInstalledError: One of them is not.
    """
    for backend in _EXTRAS:
        if not installed(backend):
            msg = f"compiling needs the {backend} engine, which is not installed"
            raise EngineNotInstalledError(msg, hint='pip install "langchain-localhf[compile]"')


def require_compiler(precision: Precision, texts: Sequence[str] = (), *, reads_images: bool = False) -> None:
    """Checks that a graph in this precision can be made here, before a model is opened for it.

    Args:
        precision: What to calculate in.
        texts: What to learn the ranges of int8 from.
        reads_images: Whether the model is a dual encoder.

    Raises:
        EngineNotInstalledError: An extra is not installed.
        InputError: int8 is asked for without texts.
        UnsupportedModelError: There is no such graph, or not on this machine.
    """
    _require("openvino")
    if precision == "int8" and find_spec("nncf") is None:
        msg = "quantizing needs nncf, which is not installed"
        raise EngineNotInstalledError(msg, hint='pip install "langchain-localhf[compile]"')
    from langchain_localhf.engines.compiling import check  # noqa: PLC0415 - it loads on first use

    check(precision, texts, reads_images=reads_images)


def compile_encoder(
    encoder: Encoder,
    checkpoint: Checkpoint,
    folder: Path,
    *,
    name: str,
    precision: Precision = "auto",
    texts: Sequence[str] = (),
) -> Compiled[Parity]:
    """Compiles an embedding model that runs in torch into a graph in `folder`; see `engines.compiling`.

    Raises:
        EngineNotInstalledError: An extra is not installed.
        InputError: int8 is asked for without texts.
        UnsupportedModelError: The model cannot be compiled, or not in this precision here.
        CheckpointError: The graph differs from torch by more than is promised.
    """
    require_compiler(precision, texts)
    from langchain_localhf.engines.compiling import compile_encoder as compiled  # noqa: PLC0415 - it loads on first use

    return compiled(encoder, checkpoint, folder, name=name, precision=precision, texts=texts)


def compile_scorer(
    scorer: Scorer, checkpoint: Checkpoint, folder: Path, *, name: str, precision: Precision = "auto"
) -> Compiled[ScoreParity]:
    """Compiles a cross-encoder that runs in torch into a graph in `folder`; see `engines.compiling`.

    Raises:
        EngineNotInstalledError: An extra is not installed.
        UnsupportedModelError: The model cannot be compiled, or not in this precision here.
        CheckpointError: The graph differs from torch by more than is promised.
    """
    _require("openvino")
    from langchain_localhf.engines.compiling import compile_scorer as compiled  # noqa: PLC0415 - it loads on first use

    return compiled(scorer, checkpoint, folder, name=name, precision=precision)


def export_language_model(
    generator: Generator,
    folder: Path,
    target: Path,
    *,
    optimum_cli: Path | None,
    weight_format: str | None,
    trust_remote_code: bool,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Exports a language model to a new folder for the OpenVINO engine; see `engines.exporting`.

    Raises:
        EngineNotInstalledError: There is no `optimum-cli`, or an extra is not installed.
        UnsupportedModelError: OpenVINO has no export for this kind of model.
        CheckpointError: The export failed, or what it made writes another text than torch.

    Returns:
        The versions of the libraries that are to run it.
    """
    _require("openvino", "openvino_genai")
    from langchain_localhf.engines.exporting import export  # noqa: PLC0415 - it loads on first use

    return export(
        generator,
        folder,
        target,
        optimum_cli=optimum_cli,
        weight_format=weight_format,
        trust_remote_code=trust_remote_code,
        say=say,
    )


def _require(backend: str, *more: str, instead: str = "") -> None:
    """Checks that there is an engine, and it is installed, with `more` of its packages; `instead` ends the hint."""
    if backend not in _EXTRAS:
        msg = f"there is no engine for backend={backend!r}"
        raise UnsupportedModelError(msg, hint=f"use one of {', '.join(_EXTRAS)}")
    if not installed(backend) or not all(map(find_spec, more)):
        msg = f"the {backend} engine is not installed"
        raise EngineNotInstalledError(msg, hint=f'pip install "langchain-localhf[{backend}]"{instead}')
