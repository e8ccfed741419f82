"""Runs the code that comes with a model, if the user trusts it: exactly the bytes that were verified, and offline.

`transformers` finds such code through two functions: one that brings a file here, by downloading it or by copying it
into a folder that it shares with every program of the user, and one that imports a class from that copy. While a
trusted model loads, both are answered from here: the code is read from the model's folder once, compared with the
manifest, and run from memory. Nothing is resolved, fetched or written, so that a read-only file system will do.
Without trust, both refuse.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import re
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import CONFIG_MAPPING, dynamic_module_utils
from transformers.generation import utils as generation_utils

from langchain_localhf.checkpoint import code as checkpoint_code
from langchain_localhf.engines.torch.compatibility import builtins_for_old_code
from langchain_localhf.engines.torch.construction import adapt_classes
from langchain_localhf.engines.torch.importer import MemoryImporter, SourceFile
from langchain_localhf.errors import (
    CheckpointError,
    IncompleteModelError,
    LocalHFError,
    UnsafeModelError,
    UnsupportedModelError,
)
from langchain_localhf.store import files as model_files
from langchain_localhf.store.hub_cache import find_sibling
from langchain_localhf.store.manifest import Differences

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.checkpoint.code import CodeReference
    from langchain_localhf.store.manifest import Manifest

NAMESPACE = "localhf_trusted_code"

_importer = MemoryImporter(NAMESPACE, builtins=builtins_for_old_code(), prepare=adapt_classes)
_answering = threading.Lock()
# Each of the two functions is known by its name in the module that defines it and in one that uses it.
_ASKED = (dynamic_module_utils, generation_utils)


def is_foreign(module: object) -> bool:
    """Whether the class of an object was defined by code that came with a model."""
    return type(module).__module__.startswith(f"{NAMESPACE}.")


class ModelCode:
    """The code of one model, importable under names that its content determines.

    Args:
        name: The model, for messages.
        folder: The model's folder.
        files: Its code, by its path relative to the folder.
    """

    def __init__(self, name: str, folder: Path, files: Mapping[str, SourceFile]) -> None:
        self._name = name
        self._folder = folder
        self._modules: dict[tuple[str, str], str] = {}
        # Equal code has equal names: a second load shares the modules of the first; other code never does.
        root = f"{NAMESPACE}.c{_digest(files)}"
        for path, file in sorted(files.items()):
            repository, own_path = checkpoint_code.repository_of(path)
            parts = [_identifier(repository) or "own", *own_path.removesuffix(".py").split("/")]
            self._modules[repository, own_path] = ".".join([root, *parts])
            _importer.add(self._modules[repository, own_path], file)

    def find_module(self, repository: str, path: str) -> str:
        """The importable name of a file of code.

        Args:
            repository: The repository as `transformers` names it: the model's own is the model's folder.
            path: The file in that repository.

        Raises:
            IncompleteModelError: The model does not hold it.
        """
        known = "" if repository == self._name or Path(repository) == self._folder else repository
        try:
            return self._modules[known, path]
        except KeyError:
            missing = {known: [checkpoint_code.vendored_folder(known) + path]}
            raise missing_code(self._name, missing) from None

    def find_class(self, class_name: str, module: str) -> Any:  # noqa: ANN401 - whatever the module calls by that name
        """Runs a module, unless an earlier load has done so, and gives what it defines as `class_name`.

        Raises:
            UnsupportedModelError: The code needs a package that is not installed, or a name that is gone from one.
            CheckpointError: The code fails, or does not define that class.
        """
        where = f"{_importer.files[module].path.name}, which comes with {self._name},"
        try:
            return getattr(importlib.import_module(module), class_name)
        except LocalHFError:
            raise
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            msg = f"{where} needs a package that is not installed: {error.name}"
            raise UnsupportedModelError(msg, hint=f"pip install {package}") from error
        except ImportError as error:
            msg = f"{where} was written for other versions of its libraries: {error}"
            raise UnsupportedModelError(
                msg, hint="use a model of an architecture that transformers itself has"
            ) from error
        except Exception as error:
            msg = f"{where} fails when it is run: {type(error).__name__}: {error}"
            raise CheckpointError(msg, hint="use another revision of the model, or a model without code") from error


def read_code(
    checkpoint: Checkpoint, references: Sequence[CodeReference], *, name: str, manifest: Manifest | None
) -> ModelCode:
    """Reads the code that a model needs, once, and verifies what was read; runs none of it.

    Args:
        checkpoint: The model.
        references: The classes that are wanted.
        name: The model, for messages.
        manifest: What its folder should hold, or None if nobody wrote that down.

    Raises:
        IntegrityError: The code is not what the manifest says.
        IncompleteModelError: Code is missing.
        CheckpointError: Code is no Python.
    """
    # Some models name their own repository in full.
    references = [replace(found, repository="") if found.repository == name else found for found in references]
    paths = [path for path in checkpoint.files if model_files.is_code(path)]
    files = {path: _read(checkpoint.folder / path) for path in paths}
    if manifest is not None:
        _verify(files, manifest)
    else:
        files |= _from_hub_cache(checkpoint.folder, {reference.repository for reference in references})
    sources = {path: file.content for path, file in files.items()}
    if missing := checkpoint_code.missing_files(references, sources):
        raise missing_code(name, missing)
    return ModelCode(name, checkpoint.folder, files)


def code_for(
    checkpoint: Checkpoint, *, trusted: bool, name: str, manifest: Manifest | None, auto_model: str = "AutoModel"
) -> ModelCode | None:
    """The code that a model is to be loaded with: verified, and None if it is to be loaded without any.

    Args:
        checkpoint: The model.
        trusted: Whether the user trusts its code.
        name: The model's repository, or another name for messages.
        manifest: What its folder should hold, or None if nobody wrote that down.
        auto_model: What it is loaded as, such as `AutoModelForCausalLM`.

    Raises:
        UnsafeModelError: It needs code that the user does not trust.
        UnsupportedModelError: transformers does not know its architecture, and it brings no code.
        IntegrityError: Its code is not what the manifest says.
        IncompleteModelError: Code is missing.
    """
    kind = checkpoint.config.get("model_type")
    is_known = kind is None or kind in CONFIG_MAPPING
    # What transformers took over from the authors needs their code only where transformers is older than that.
    wanted = tuple(reference for reference in checkpoint.code if reference.is_for(auto_model))
    needed = checkpoint.foreign_code(auto_model) if is_known else wanted
    if not is_known and not needed:
        msg = f"{checkpoint.folder} is of an architecture that the installed transformers does not know: {kind}"
        raise UnsupportedModelError(msg, hint="install a newer transformers")
    if needed and not trusted:
        raise checkpoint_code.refusal(checkpoint.folder, needed, name=name if "/" in name else None)
    if not trusted or (wanted and not needed):
        return None
    return read_code(checkpoint, needed, name=name, manifest=manifest)


# A way of generating of its own, which older versions of transformers look for in every repository that is trusted.
_OWN_GENERATE = "custom_generate/generate.py"


@contextlib.contextmanager
def trusted_code(code: ModelCode | None, *, name: str) -> Iterator[None]:
    """Answers every request for foreign code, made by this thread, with `code`; refuses it if that is None.

    The second is a bolt behind the lock: what a model's files ask for was refused before, when they were read.

    Args:
        code: What `read_code` gave, or None for a model whose code nobody trusts, or which has none.
        name: The model, for messages.

    Raises:
        UnsafeModelError: Something asked for code without trust.
        IncompleteModelError: Something asked for code that the model does not hold.
    """
    thread = threading.get_ident()
    with _answering:
        get_file, get_class = dynamic_module_utils.get_cached_module_file, dynamic_module_utils.get_class_in_module

        def answer_file(repository: object, module_file: str, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401
            if threading.get_ident() != thread:
                return get_file(repository, module_file, *args, **kwargs)  # type: ignore[arg-type]
            if module_file == _OWN_GENERATE:
                raise OSError(module_file)  # as for every model without one
            return _trusted(code, name, module_file).find_module(str(repository), module_file)

        def answer_class(class_name: str, module: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passed on
            if threading.get_ident() != thread:
                return get_class(class_name, module, **kwargs)
            return _trusted(code, name, class_name).find_class(class_name, module)

        try:
            _answer_with(answer_file, answer_class)
            yield
        finally:
            _answer_with(get_file, get_class)


def _trusted(code: ModelCode | None, name: str, what: str) -> ModelCode:
    if code is None:
        msg = f"{name} asks for code while it loads, and nobody said that this code is trusted: {what}"
        raise UnsafeModelError(msg, hint="use a model without code")
    return code


def _answer_with(get_file: object, get_class: object) -> None:
    for module in _ASKED:
        vars(module).update(get_cached_module_file=get_file, get_class_in_module=get_class)


def missing_code(name: str, missing: Mapping[str, Sequence[str]]) -> IncompleteModelError:
    """The error for code that is not here.

    Args:
        name: The model, as `localhf pull` takes it.
        missing: The missing files, by the repository that they belong to; the model's own is empty.
    """
    lines = "".join(
        f"\n  {', '.join(paths)} of {repository or 'its own repository'}" for repository, paths in missing.items()
    )
    msg = f"{name} needs code that is not on this machine, and nothing is downloaded at run time:{lines}"
    hint = f"bring it here once, with a network: localhf pull --trust-remote-code {name}"
    return IncompleteModelError(msg, missing=[path for paths in missing.values() for path in paths], hint=hint)


def _verify(files: Mapping[str, SourceFile], manifest: Manifest) -> None:
    """Compares what was read, not the files: they could change in between."""
    listed = {path: digest for path, digest in manifest.hashes.items() if model_files.is_code(path)}
    read = {path: hashlib.sha256(file.content).hexdigest() for path, file in files.items()}
    differences = Differences(
        changed=tuple(sorted(path for path in read.keys() & listed.keys() if read[path] != listed[path])),
        missing=tuple(sorted(listed.keys() - read.keys())),
        extra=tuple(sorted(read.keys() - listed.keys())),
    )
    if differences:
        raise differences.as_error(manifest)


def _from_hub_cache(folder: Path, repositories: set[str]) -> dict[str, SourceFile]:
    """The code of other repositories, where Hugging Face's own tools have put them beside the model."""
    snapshots = {repository: find_sibling(folder, repository) for repository in repositories - {""}}
    return {
        checkpoint_code.vendored_folder(repository) + path: _read(snapshot / path)
        for repository, snapshot in snapshots.items()
        if snapshot
        for path in model_files.files_in(snapshot)
        if model_files.is_code(path)
    }


def _read(path: Path) -> SourceFile:
    return SourceFile(path, path.read_bytes())


def _digest(files: Mapping[str, SourceFile]) -> str:
    digest = hashlib.sha256()
    for path, file in sorted(files.items()):
        for part in (path.encode(), file.content):
            digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:16]


def _identifier(repository: str) -> str:
    """A name for a repository that Python can import, and that no other repository has."""
    return re.sub(r"\W", lambda match: f"_{ord(match[0]):x}_", repository)
