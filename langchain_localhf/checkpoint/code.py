"""The code that a checkpoint asks for, as its files name it: which classes, of which repository. Nothing is run.

Code of the model's own repository lies in the model's folder; code of another repository lies, vendored, in
`code/<org>--<name>/` inside it. `config.json` and its relatives name classes in an `auto_map`, as `module.Class` or
`org/name--module.Class`; `modules.json` does so for the parts of a sentence-transformers model.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from langchain_localhf.checkpoint.modules import read_json
from langchain_localhf.errors import CheckpointError, UnsafeModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from langchain_localhf.checkpoint.modules import Module

VENDORED_FOLDER = "code"

# Every file in which a loader looks for classes to import.
_CONFIGURATIONS = (
    "config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json",
    "image_processor_config.json", "video_preprocessor_config.json", "feature_extractor_config.json",
    "generation_config.json",
)  # fmt: skip
_SENTENCE_CONFIGURATION = re.compile(r"sentence_[\w-]+_config\.json")
_REFERENCE = re.compile(
    r"(?:(?P<repository>\w[\w.-]*/\w[\w.-]*)--)?(?P<module>(?!.*--)\w[\w-]*(?:/\w[\w-]*)*)\.(?P<name>\w+)"
)
# Settings whose value can be the repository of a compute kernel, which would be downloaded and run.
_IMPLEMENTATIONS = {
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "experts_implementation", "_experts_implementation", "_experts_implementation_internal",
}  # fmt: skip
_KERNEL_SWITCHES = {"use_kernels", "kernel_config", "allow_all_kernels"}
# What a file could tell the loader in the user's place: to read a pickle, other weights, or another repository.
_LOADING_SETTINGS = {
    "weights_only", "use_safetensors", "gguf_file", "variant", "subfolder", "state_dict", "adapter_kwargs", "config",
    "key_mapping", "ignore_mismatched_sizes", "revision", "code_revision", "cache_dir", "from_tf", "from_flax",
}  # fmt: skip
_LOADING_ARGUMENTS = (
    "model_args",
    "model_kwargs",
    "tokenizer_args",
    "processor_kwargs",
    "config_args",
    "config_kwargs",
)
# Architectures that transformers took over from their authors, with the classes, and with the settings that only the
# class of transformers reads: a configuration without them was written for the authors' class, and transformers would
# take its own defaults for what it says. A list, and no guess from equal names: gte-Qwen2 names a `Qwen2Model` of its
# own, with another attention than the `Qwen2Model` of transformers that it was made from.
_TAKEN_OVER = {
    "nomic_bert": (
        {"NomicBertConfig", "NomicBertModel"},
        {"hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers"},
    )
}


@dataclass(frozen=True, order=True)
class CodeReference:
    """One class that a checkpoint asks for.

    Attributes:
        repository: The repository with the code; empty for the model's own.
        module: The file with the class, as a path without `.py`.
        class_name: The class.
        auto_class: What it is wanted for, such as `AutoModel`; `modules.json` for a part of the model.
        source: The file that names it, relative to the model's folder.
    """

    repository: str
    module: str
    class_name: str
    auto_class: str
    source: str

    @classmethod
    def parse(cls, text: str, *, auto_class: str, source: str) -> CodeReference:
        """Reads `module.Class` or `org/name--module.Class`.

        Raises:
            UnsafeModelError: It is neither; a path, which could lead anywhere on this machine, is neither.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None or ".." in (match["repository"] or ""):
            msg = f"{source} names code that is neither in its repository nor in another: {text!r}"
            raise UnsafeModelError(msg, hint="do not use this model")
        return cls(match["repository"] or "", match["module"], match["name"], auto_class, source)

    @property
    def path(self) -> str:
        """Where the code lies, relative to the model's folder."""
        return f"{vendored_folder(self.repository)}{self.module}.py"

    def is_for(self, auto_model: str) -> bool:
        """Whether the class is needed when the model is loaded as `auto_model`, and not for another head or library."""
        return self.auto_class == auto_model or not re.match(r"(TF|Flax)?AutoModel", self.auto_class)

    def __str__(self) -> str:
        return f"{self.module}.{self.class_name}"


def vendored_folder(repository: str) -> str:
    """Where the code of a repository lies, relative to the model's folder: empty, or ending in a slash."""
    return f"{VENDORED_FOLDER}/{repository.replace('/', '--')}/" if repository else ""


def repository_of(path: str) -> tuple[str, str]:
    """The repository that a file of code belongs to, empty for the model's own, and its path there."""
    parts = PurePosixPath(path).parts
    if len(parts) > 2 and parts[0] == VENDORED_FOLDER and "--" in parts[1]:  # noqa: PLR2004 - folder, repository, file
        return parts[1].replace("--", "/", 1), "/".join(parts[2:])
    return "", path


def read_references(
    folder: Path, transformer_folders: Iterable[Path], modules: Iterable[Module]
) -> tuple[CodeReference, ...]:
    """Every class outside the libraries that the files of a model name, sorted.

    Raises:
        CheckpointError: A file is damaged.
        UnsafeModelError: A file names code in a form that cannot be right.
    """
    found = {
        CodeReference.parse(part.class_reference, auto_class="modules.json", source="modules.json")
        for part in modules
        if part.is_foreign
    }
    for path, content in _configurations(folder, transformer_folders):
        source = path.relative_to(folder).as_posix()
        for auto_class, text in _auto_map_entries(content):
            found.add(CodeReference.parse(text, auto_class=auto_class, source=source))
    return tuple(sorted(found))


def refuse_redirections(folder: Path, transformer_folders: Iterable[Path]) -> None:
    """Refuses a model whose files make the loader run or read something else than the model.

    Trust in the model's code does not cover these. A compute kernel comes from another repository, is code, and would
    be fetched at run time. Settings of the loader, which `sentence_bert_config.json` can hold, can make it read a
    pickle that lies beside the safetensors file, or weights that nobody looked at.

    Raises:
        UnsafeModelError: A file does so.
    """
    for path, content in _configurations(folder, transformer_folders):
        for key, value in _walk(content):
            if (key in _IMPLEMENTATIONS and _names_repository(value)) or (key in _KERNEL_SWITCHES and value):
                msg = f"{path} asks for compute kernels, which are code of another repository: {key} = {value!r}"
                raise UnsafeModelError(msg, hint=f"remove {key} from that file if you want the model without them")
        arguments = [content[key] for key in _LOADING_ARGUMENTS if isinstance(content.get(key), dict)]
        redirecting = {key for settings in arguments for key in settings} & _LOADING_SETTINGS
        if content.get("transformers_weights") is not None:
            redirecting.add("transformers_weights")
        if redirecting:
            msg = f"{path} changes which files are loaded, and how: {', '.join(sorted(redirecting))}"
            raise UnsafeModelError(msg, hint="remove that from the file if you want the model without it")


def taken_over(references: Iterable[CodeReference], config: Mapping[str, Any]) -> bool:
    """Whether transformers itself has the very classes that `references` name, and `config` is written for those."""
    classes, settings = _TAKEN_OVER.get(str(config.get("model_type")), (set[str](), set[str]()))
    return settings <= config.keys() and all(reference.class_name in classes for reference in references)


def refusal(
    folder: Path,
    references: Iterable[CodeReference],
    *,
    name: str | None = None,
    commits: Mapping[str, str] | None = None,
) -> UnsafeModelError:
    """The error for a model whose code may not run: what would run, and both ways forward.

    Args:
        folder: The model's folder.
        references: The classes that would run.
        name: The model's repository, as `localhf pull` takes it; None for a folder that came from nowhere.
        commits: The commits of the repositories with the code, as far as they are known; the model's own is `""`.
    """
    by_repository: dict[str, set[CodeReference]] = {}
    for reference in references:
        by_repository.setdefault(reference.repository, set()).add(reference)
    lines = ""
    for repository, wanted in sorted(by_repository.items()):
        classes = ", ".join(sorted({str(reference) for reference in wanted}))
        sources = ", ".join(sorted({reference.source for reference in wanted}))
        commit = (commits or {}).get(repository)
        where = f"{repository or 'its own repository'}{f' at commit {commit}' if commit else ''}"
        lines += f"\n  {classes} of {where} (named in {sources})"
    msg = f"{name or folder} needs code that comes with it, and nobody said that this code is trusted:{lines}"
    pull = f"`localhf pull --trust-remote-code {name}` once, and " if name else ""
    hint = (
        f'read that code; if you trust it, {pull}pass model_kwargs={{"trust_remote_code": True}}; '
        "if you do not, use a model without code"
    )
    return UnsafeModelError(msg, hint=hint)


def missing_files(references: Iterable[CodeReference], sources: Mapping[str, bytes]) -> dict[str, list[str]]:
    """The files that `references`, and the imports inside them, need beside `sources`, by repository.

    Args:
        references: The classes that are wanted.
        sources: The code that is here, by its path relative to the model's folder.

    Raises:
        CheckpointError: A file is no Python.
    """
    missing: dict[str, list[str]] = {}
    seen: set[str] = set()
    waiting = [(reference.repository, reference.path) for reference in references]
    while waiting:
        repository, path = waiting.pop()
        package = f"{path.removesuffix('.py')}/__init__.py"
        here = package if path not in sources and package in sources else path
        if here in seen:
            continue
        seen.add(here)
        if here in sources:
            waiting += [(repository, found) for found in relative_imports(here, sources[here])]
        else:
            missing.setdefault(repository, []).append(path)
    return {repository: sorted(paths) for repository, paths in sorted(missing.items())}


def relative_imports(path: str, source: bytes) -> list[str]:
    """The files that the code at `path` imports from beside itself, unless it does so inside a `try`.

    Args:
        path: Where the code lies, relative to the model's folder.
        source: The code.

    Raises:
        CheckpointError: It is no Python.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        msg = f"{path} is no valid Python: {error}"
        raise CheckpointError(msg, hint="pull or copy the model again") from error
    found = []
    for node in _outside_try(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = PurePosixPath(path).parents[node.level - 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [str(base / f"{name.replace('.', '/')}.py") for name in names]
    return found


def _outside_try(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.Try):
            yield node
            yield from _outside_try(node)


def _configurations(folder: Path, transformer_folders: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    for place in dict.fromkeys((folder, *transformer_folders)):
        names = {*_CONFIGURATIONS, *(path.name for path in place.glob("sentence_*_config.json"))}
        for name in sorted(names):
            path = place / name
            if path.is_file() and (name in _CONFIGURATIONS or _SENTENCE_CONFIGURATION.fullmatch(name)):
                yield path, read_json(path)


def _auto_map_entries(content: object) -> Iterator[tuple[str, str]]:
    """Every reference in every `auto_map`, at whatever depth: parts of a composite model have their own."""
    for key, value in _walk(content):
        if key != "auto_map":
            continue
        entries = value.items() if isinstance(value, dict) else [("AutoTokenizer", value)]  # a list is the oldest form
        for auto_class, texts in entries:
            yield from ((str(auto_class), text) for text in _texts(texts))


def _texts(value: object) -> Iterator[str]:
    """The strings in a value that may be one, a list of some (slow, fast), or a table of some (by backend)."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts(entry)


def _walk(content: object) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield str(key), value
            yield from _walk(value)
    elif isinstance(content, list):
        for value in content:
            yield from _walk(value)


def _names_repository(value: object) -> bool:
    return any("/" in text for text in _texts(value))
