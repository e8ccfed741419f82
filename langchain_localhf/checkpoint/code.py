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

from langchain_localhf.checkpoint.configurations import configurations, texts_in, walk
from langchain_localhf.errors import CheckpointError, UnsafeModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from langchain_localhf.checkpoint.modules import Module

VENDORED_FOLDER = "code"

_REFERENCE = re.compile(
    r"(?:(?P<repository>\w[\w.-]*/\w[\w.-]*)--)?(?P<module>(?!.*--)\w[\w-]*(?:/\w[\w-]*)*)\.(?P<name>\w+)"
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
    for path, content in configurations(folder, transformer_folders):
        source = path.relative_to(folder).as_posix()
        for auto_class, text in _auto_map_entries(content):
            found.add(CodeReference.parse(text, auto_class=auto_class, source=source))
    return tuple(sorted(found))


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
    bring: str | None = None,
) -> UnsafeModelError:
    """The error for a model whose code may not run: what would run, and both ways forward.

    Args:
        folder: The model's folder.
        references: The classes that would run.
        name: The model's repository, as `localhf pull` takes it; None for a folder that came from nowhere.
        commits: The commits of the repositories with the code, as far as they are known; the model's own is `""`.
        bring: The command that brings the model here with its code, empty if it is here; None for a pull of `name`.
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
    if bring is None:
        bring = f"localhf pull --trust-remote-code {name}" if name else ""
    return UnsafeModelError(msg, hint=f"{trust_hint(bring)}; if you do not, use a model without code")


def trust_hint(bring: str | None) -> str:
    """How to say that a model's code is trusted: with `bring`, if that is not empty, and on every load."""
    once = f"`{bring}` once, and " if bring else ""
    return f'read that code; if you trust it, {once}pass model_kwargs={{"trust_remote_code": True}}'


def missing_files(
    references: Iterable[CodeReference], sources: Mapping[str, bytes], *, optional: bool = False
) -> dict[str, list[str]]:
    """The files that `references`, and the imports inside them, need beside `sources`, by repository.

    Args:
        references: The classes that are wanted.
        sources: The code that is here, by its path relative to the model's folder.
        optional: Whether to list also what the code can do without, because it imports it inside a `try`.

    Raises:
        CheckpointError: A file is no Python, or imports from outside of its repository.
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
            waiting += [(repository, found) for found in relative_imports(here, sources[here], optional=optional)]
        else:
            missing.setdefault(repository, []).append(path)
    return {repository: sorted(paths) for repository, paths in sorted(missing.items())}


def relative_imports(path: str, source: bytes, *, optional: bool = False) -> list[str]:
    """The files that the code at `path` imports from beside itself; those inside a `try` are optional.

    Args:
        path: Where the code lies, relative to the model's folder.
        source: The code.
        optional: Whether to list the optional ones, too.

    Raises:
        CheckpointError: It is no Python, or imports from outside of its repository.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        msg = f"{path} is no valid Python: {error}"
        raise CheckpointError(msg, hint="pull or copy the model again") from error
    repository, own_path = repository_of(path)
    folders = PurePosixPath(own_path).parents
    found = []
    for node in ast.walk(tree) if optional else _outside_try(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level > len(folders):
                if optional:  # whether it matters is asked without the optional ones
                    continue
                msg = f"{path} imports from outside of its repository"
                raise CheckpointError(msg, hint="use another revision of the model, or a model without code")
            names = [node.module] if node.module else [alias.name for alias in node.names]
            places = [folders[node.level - 1] / f"{name.replace('.', '/')}.py" for name in names]
            found += [f"{vendored_folder(repository)}{place}" for place in places]
    return found


def _outside_try(tree: ast.AST) -> Iterator[ast.AST]:
    waiting = [tree]  # and no recursion: how deep it goes is up to whoever wrote the code
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if not isinstance(node, ast.Try):
                yield node
                waiting.append(node)


def _auto_map_entries(content: object) -> Iterator[tuple[str, str]]:
    """Every reference in every `auto_map`, at whatever depth: parts of a composite model have their own."""
    for key, value in walk(content):
        if key != "auto_map":
            continue
        entries = value.items() if isinstance(value, dict) else [("AutoTokenizer", value)]  # a list is the oldest form
        for auto_class, texts in entries:
            yield from ((str(auto_class), text) for text in texts_in(texts))
