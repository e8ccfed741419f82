"""Which files of a repository a model needs, told by their names alone.

One rule serves everyone: `pull` downloads these files, `add` copies them, the manifest lists them, and the fingerprint
is made of those among them that shape the vectors.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MANIFEST_NAME = "localhf.json"

_DOCUMENTS = re.compile(r"(readme|license|licence|notice)(\.(md|txt))?", re.IGNORECASE)
_DESCRIPTIONS = re.compile(r".*config.*\.json|modules\.json")
_WEIGHTS = re.compile(r"(model|adapter_model)(-\d+-of-\d+)?\.safetensors")
_PICKLE_SUFFIXES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"}
_WEIGHT_SUFFIXES = _PICKLE_SUFFIXES | {".safetensors", ".h5", ".msgpack", ".gguf", ".onnx"}
_TOKENIZER_SUFFIXES = {".model", ".spm", ".tiktoken", ".jinja"}
# Folders with the same model for other runtimes, and what training leaves behind.
_OTHER_FOLDERS = re.compile(r"(onnx|openvino|coreml|original|gguf|runs|logs|eval|checkpoint-\d+|\..*)", re.IGNORECASE)
_OTHER_FILES = re.compile(
    r"(trainer_state|training_args|optimizer|scheduler|rng_state.*|all_results|train_results|eval_results|data_config|"
    r"similarity_evaluation.*|flax_.*|tf_.*)\..*",
    re.IGNORECASE,
)


def is_code(path: str) -> bool:
    """Whether the file is Python that a loader could run."""
    return path.endswith(".py")


def is_pickle(path: str) -> bool:
    """Whether the file holds weights as a pickle, which can run code when it is read."""
    pure = PurePosixPath(path)
    return pure.suffix in _PICKLE_SUFFIXES and not _OTHER_FILES.fullmatch(pure.name)


def is_weights(path: str) -> bool:
    """Whether the file holds weights, in any format."""
    return PurePosixPath(path).suffix in _WEIGHT_SUFFIXES


def is_document(path: str) -> bool:
    """Whether the file is for people, such as a model card or a licence."""
    return _DOCUMENTS.fullmatch(PurePosixPath(path).name) is not None


def needed(paths: Iterable[str]) -> list[str]:
    """The files among `paths` that a model needs, sorted; safetensors weights only, never pickle and never code."""
    return sorted(path for path in paths if _is_needed(PurePosixPath(path)))


def descriptions(paths: Iterable[str]) -> list[str]:
    """The needed files among `paths` that say what a model is and whose code it runs, sorted; all are small."""
    return [path for path in needed(paths) if _DESCRIPTIONS.fullmatch(PurePosixPath(path).name)]


def shape_vectors(paths: Iterable[str]) -> list[str]:
    """The files among `paths` whose content can change a vector: the needed ones without the documents, sorted."""
    return [path for path in needed(paths) if not is_document(path)]


def pickled_only(paths: Iterable[str]) -> list[str]:
    """Pickled weights that no safetensors file in the same folder replaces, sorted."""
    relevant = [path for path in map(PurePosixPath, paths) if not _in_other_folder(path)]
    replaced = {path.parent for path in relevant if _WEIGHTS.fullmatch(path.name)}
    return sorted(str(path) for path in relevant if is_pickle(str(path)) and path.parent not in replaced)


def files_in(folder: Path) -> list[str]:
    """Every file below `folder`, as sorted POSIX paths relative to it; version control and caches are left out."""
    found = (path for path in folder.rglob("*") if path.is_file())
    relative = (path.relative_to(folder) for path in found)
    return sorted(path.as_posix() for path in relative if not _in_hidden_folder(PurePosixPath(path.as_posix())))


def _in_hidden_folder(path: PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parent.parts)


def _in_other_folder(path: PurePosixPath) -> bool:
    return any(_OTHER_FOLDERS.fullmatch(part) for part in path.parent.parts)


def _is_needed(path: PurePosixPath) -> bool:
    if _in_other_folder(path) or path.name == MANIFEST_NAME or path.name.startswith("."):
        return False
    if is_document(path.name):
        return True
    if _OTHER_FILES.fullmatch(path.name):
        return False
    if path.suffix == ".safetensors":
        return _WEIGHTS.fullmatch(path.name) is not None
    return path.suffix in {".json", ".txt"} | _TOKENIZER_SUFFIXES
