"""Compiling a model of the store for OpenVINO, and packing what was compiled without the weights it was made from."""

from __future__ import annotations

import contextlib
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_localhf import engines
from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.checkpoint.fingerprint import fingerprint
from langchain_localhf.errors import LockfileError, StoreError, UnsupportedModelError
from langchain_localhf.loading import load_generator, open_model, open_scorer
from langchain_localhf.provisioning.inventory import copied, show, the_store
from langchain_localhf.store import locations
from langchain_localhf.store.compilation import COMPILED_FOLDER, Compilation
from langchain_localhf.store.manifest import compare, describe
from langchain_localhf.store.model_store import LocalModel, ModelStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_localhf.store.compilation import Precision
    from langchain_localhf.store.manifest import Manifest

_STAGED = f".{COMPILED_FOLDER}-staged"
_WEIGHT_FORMATS: dict[str, str | None] = {"auto": None, "f32": "fp32", "int8": "int8", "int4": "int4"}


def compile_model(
    model: str | LocalModel,
    *,
    precision: Precision = "auto",
    texts: Sequence[str] = (),
    trust_remote_code: bool = False,
    force: bool = False,
    show_progress: bool = False,
) -> LocalModel:
    """Compiles a model for OpenVINO, compares the result with torch, and puts it beside the model's own files.

    An embedding model or a cross-encoder becomes one graph, whatever its modules are; a language model is exported by
    `optimum-cli`.

    Args:
        model: A model that was pulled or added.
        precision: For an embedding model, what to calculate in: `auto` (bf16 where the processor has it, else f32),
            `f32`, `bf16` or `int8`; for a cross-encoder the same without `int8`. For a language model, what its weights
            are kept in: `auto` (int8 from a billion parameters on), `f32`, `int8` or `int4`.
        texts: For an embedding model in int8: texts like those it will read, at least 32.
        trust_remote_code: Whether you trust the code of a model that brings its own: it runs now, and never again.
        force: Whether to compile a model that is compiled already, with these libraries, in this precision.
        show_progress: Whether to say on stderr what happens.

    Returns:
        The model, with what was compiled in its manifest.

    Raises:
        ModelReferenceError: The name cannot be read.
        ModelNotFoundError: The model is not on this machine.
        LockfileError: It was neither pulled nor added, so that nothing says what its files should be.
        IntegrityError: Its files are not those that were pulled or added.
        InputError: int8 is asked for without texts.
        EngineNotInstalledError: Something that compiling needs is not installed.
        UnsupportedModelError: The model cannot be compiled, or not in this precision.
        UnsafeModelError: It needs code that is not trusted.
        CheckpointError: What was compiled differs from torch by more than is promised; nothing was written.
    """
    found = show(str(model.folder)) if isinstance(model, LocalModel) else show(model)
    manifest = _listed(found)
    if not force and _is_compiled(manifest, precision):
        _say(f"{found.name} is compiled already", wanted=show_progress)
        return found
    engines.require_compiling()
    _say(f"compiling {found.name}", wanted=show_progress)
    with the_store().locked(found.name), _staged(found.folder) as staged:
        checkpoint = Checkpoint.read(found.folder)
        if checkpoint.is_cross_encoder:
            compiled = _compile_scorer(found, manifest, staged, precision, trusted=trust_remote_code)
        elif checkpoint.modules or checkpoint.is_encoder:
            engines.require_compiler(precision, texts, reads_images=checkpoint.image_folder is not None)
            compiled = _compile_encoder(found, manifest, staged, precision, texts, trusted=trust_remote_code)
        else:
            compiled = _export(found, staged, precision, trusted=trust_remote_code, show_progress=show_progress)
        files = (
            entry.model_copy(update={"path": f"{COMPILED_FOLDER}/{entry.path}"})
            for entry in describe(staged, sorted(path.name for path in staged.iterdir() if path.is_file()))
        )
        complete = manifest.model_copy(
            update={"compiled": compiled.model_copy(update={"files": tuple(files)}), "packed": False}
        )
        if compiled.fingerprint is not None:
            complete = _with_fingerprint(complete, found.folder)
        _put(found.folder, staged, complete)
    return LocalModel(found.name, found.folder, complete)


def pack(model: str, target: Path, *, runtime: str = "openvino") -> LocalModel:
    """Copies a compiled model without the weights that it was compiled from, into another store.

    Args:
        model: A model that was compiled.
        target: The other store, such as a folder that a container image gets as its `LOCALHF_HOME`.
        runtime: What the copy is for.

    Raises:
        ModelReferenceError: The name cannot be read.
        ModelNotFoundError: The model is not on this machine.
        UnsupportedModelError: It is not compiled, or there is no such runtime.
        IntegrityError: Its files are not those that were compiled.
        PullError: The disk is full.
        StoreError: The other store is the one that the model is in.
    """
    if runtime != COMPILED_FOLDER:
        msg = f"there is no runtime {runtime!r} to pack for"
        raise UnsupportedModelError(msg, hint=f"use --runtime {COMPILED_FOLDER}")
    found = show(model)
    manifest = _listed(found)
    if manifest.compiled is None:
        raise UnsupportedModelError(f"{found.name} is not compiled", hint=f"localhf compile {found.name}")
    if differences := compare(found.folder, manifest, compiled_only=True):
        raise differences.as_error(manifest)
    store = ModelStore(Path(target).expanduser())
    if store.folder(manifest.name).resolve() == found.folder.resolve():
        msg = f"{found.name} would be packed onto itself, in {store.home}"
        raise StoreError(msg, hint="name another folder")
    packed = manifest.model_copy(update={"packed": True})
    with store.locked(manifest.name):
        staged = copied(store, manifest.name, {entry.path: found.folder / entry.path for entry in packed.present})
        packed.write(staged)
        return store.put(manifest.name, staged)


def _listed(model: LocalModel) -> Manifest:
    if model.manifest is None:
        msg = f"{model.folder} was neither pulled nor added, so there is no manifest to say what was compiled"
        raise LockfileError(msg, hint=f"bring it into the store: localhf add {model.folder} --as {model.name}")
    return model.manifest


def _is_compiled(manifest: Manifest, precision: Precision) -> bool:
    compiled = manifest.compiled
    if compiled is None or compiled.precision != precision:
        return False
    try:
        return all(version(library) == then for library, then in compiled.versions.items())
    except PackageNotFoundError:
        return manifest.packed  # it cannot be compiled anew anyway


def _compile_encoder(
    model: LocalModel, manifest: Manifest, staged: Path, precision: Precision, texts: Sequence[str], *, trusted: bool
) -> Compilation:
    settings = {"device": "cpu", "trust_remote_code": trusted and manifest.trust_remote_code}
    loaded = open_model(model, pooling=None, model_kwargs=settings)
    made = engines.compile_encoder(
        loaded.encoder, loaded.checkpoint, staged, name=model.name, precision=precision, texts=texts
    )
    return Compilation(
        precision=precision,
        versions=made.versions,
        fingerprint=loaded.fingerprint(),  # quantized, it gets another one, once its files are known
        golden=made.golden,
        parity=made.parity,
        files=(),
    )


def _compile_scorer(
    model: LocalModel, manifest: Manifest, staged: Path, precision: Precision, *, trusted: bool
) -> Compilation:
    settings = {"device": "cpu", "trust_remote_code": trusted and manifest.trust_remote_code}
    loaded = open_scorer(model, model_kwargs=settings)
    made = engines.compile_scorer(loaded.scorer, loaded.checkpoint, staged, name=model.name, precision=precision)
    return Compilation(
        precision=precision,
        versions=made.versions,
        fingerprint=loaded.fingerprint(),
        golden=made.golden,
        score_parity=made.parity,
        files=(),
    )


def _with_fingerprint(manifest: Manifest, folder: Path) -> Manifest:
    if manifest.compiled is None:
        return manifest
    identity = fingerprint(Checkpoint.read(folder), manifest.hashes, quantized=manifest.compiled.quantized)
    return manifest.model_copy(update={"compiled": manifest.compiled.model_copy(update={"fingerprint": identity})})


def _export(
    model: LocalModel, staged: Path, precision: Precision, *, trusted: bool, show_progress: bool
) -> Compilation:
    if precision not in _WEIGHT_FORMATS:
        msg = f"the weights of a language model cannot be kept in {precision}"
        raise UnsupportedModelError(msg, hint=f"use one of {', '.join(_WEIGHT_FORMATS)}")
    # An exporter fills in what is missing; our own engine refuses, and its hashes are compared on the way.
    settings = {"trust_remote_code": True} if trusted else {}
    loaded = load_generator(str(model.folder), task="text-generation", device="cpu", model_kwargs=settings)
    staged.rmdir()
    versions = engines.export_language_model(
        loaded.generator,
        model.folder,
        staged,
        optimum_cli=locations.from_environment().optimum_cli,
        weight_format=_WEIGHT_FORMATS[precision],
        trust_remote_code=trusted,
        say=lambda line: _say(line, wanted=show_progress),
    )
    return Compilation(precision=precision, versions=versions, files=())


@contextlib.contextmanager
def _staged(folder: Path) -> Iterator[Path]:
    """An empty folder beside the model's files; gone afterwards, unless it was put into its place."""
    staged = folder / _STAGED
    shutil.rmtree(staged, ignore_errors=True)  # of one that was killed
    try:
        staged.mkdir()
    except OSError as error:
        msg = f"nothing can be written beside the model, in {folder}: {error.strerror}"
        raise StoreError(msg, hint="compile it where its folder can be written, and copy it then") from error
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _put(folder: Path, staged: Path, manifest: Manifest) -> None:
    target, old = folder / COMPILED_FOLDER, folder / f"{_STAGED}-old"
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    staged.rename(target)
    manifest.write(folder)
    shutil.rmtree(old, ignore_errors=True)


def _say(text: str, *, wanted: bool) -> None:
    if wanted:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
