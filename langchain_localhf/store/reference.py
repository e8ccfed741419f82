"""What a model name means: a folder, or a repository and perhaps a revision."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_localhf.errors import ModelNotFoundError, ModelReferenceError

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_ORGANISATION = "sentence-transformers"
CROSS_ENCODERS = "cross-encoder"  # where sentence-transformers looks for those

# The hub's own rules for the two parts of a name; `--` is what its cache puts in the place of the slash.
_PART = r"(?![^/]{97})\w(?:[\w.-]*\w)?"
_REPOSITORY = re.compile(rf"(?!.*(?:--|\.\.))(?:{_PART}/)?{_PART}(?<!\.git)", re.ASCII)
_REVISION = re.compile(r"(?!/|.*\.\.)[^\s@\\\0]+(?<!/)")
_PATH_PREFIXES = ("/", "./", "../", "~", ".\\", "..\\")
_FORMS = "use a folder, `org/name`, or `org/name@revision`"


@dataclass(frozen=True)
class Reference:
    """A model name that has been read, not yet looked up.

    Attributes:
        text: The name as the user wrote it.
        folder: The folder that it names, or None.
        repositories: The repositories that it can mean, in the order to try them; empty for a folder. A bare name
            such as `all-MiniLM-L6-v2` means `sentence-transformers/all-MiniLM-L6-v2`, as in sentence-transformers,
            and else the repository without an organisation, as `gpt2`.
        revision: The branch, tag or commit that was asked for, or None.
        organisation: Whose model a bare name means first.
    """

    text: str
    folder: Path | None = None
    repositories: tuple[str, ...] = ()
    revision: str | None = None
    organisation: str = DEFAULT_ORGANISATION

    @classmethod
    def parse(cls, text: str, *, revision: str | None = None, organisation: str = DEFAULT_ORGANISATION) -> Reference:
        """Reads a model name.

        Args:
            text: A folder, `org/name`, `name`, or either with `@revision`.
            revision: A revision given beside the name, such as `model_kwargs["revision"]`.
            organisation: Whose model a bare name means first, before the one that it means to `localhf add`.

        Raises:
            ModelReferenceError: The name has none of these forms, or two revisions are given.
            ModelNotFoundError: The name looks like a path and no folder is there. It is never taken for a repository.
        """
        if not text.strip():
            raise ModelReferenceError("the model name is empty", hint=_FORMS)
        path = expand_user(Path(text))
        if _holds(path.is_dir):
            return cls(text=text, folder=path.absolute(), revision=revision)
        if _holds(path.is_file):
            msg = f"{text!r} is a file; a model is a folder"
            raise ModelReferenceError(msg, hint=f"use its folder: {str(path.parent)!r}")
        if _looks_like_a_path(text):
            msg = f"there is no folder at {text!r} that can be read"
            raise ModelNotFoundError(msg, looked_in=(str(path.absolute()),), hint=_near_folder(path))
        return cls.parse_repository(text, revision=revision, organisation=organisation)

    @classmethod
    def parse_repository(
        cls, text: str, *, revision: str | None = None, organisation: str = DEFAULT_ORGANISATION
    ) -> Reference:
        """Reads the name of a repository, also where a folder of the same name is near.

        Raises:
            ModelReferenceError: The name is none, or two revisions are given.
        """
        repository, at, written = text.partition("@")
        require_repository(repository)
        if at and revision and written != revision:
            msg = f"two revisions are given: {text!r} and revision={revision!r}"
            raise ModelReferenceError(msg, hint="give one of them")
        revision = written if at else revision
        if revision is not None and _REVISION.fullmatch(revision) is None:
            msg = f"cannot read the revision {revision!r} of {repository}"
            raise ModelReferenceError(msg, hint="use a branch, a tag or a commit")
        homes = () if "/" in repository else (f"{organisation}/", f"{DEFAULT_ORGANISATION}/")
        candidates = tuple(dict.fromkeys(f"{home}{repository}" for home in (*homes, "")))
        return cls(text=text, repositories=candidates, revision=revision, organisation=organisation)

    @property
    def command_argument(self) -> str:
        """The name as `localhf pull` takes it, with the revision."""
        name = self.text.partition("@")[0]
        if self.repositories and self.organisation != DEFAULT_ORGANISATION:  # a bare name would mean another one there
            name = self.repositories[0]
        return f"{name}@{self.revision}" if self.revision else name


def require_repository(name: str) -> None:
    """Checks that `name` is `org/name` or `name`, and so is also safe as a path below the store.

    Raises:
        ModelReferenceError: It is neither.
    """
    if _REPOSITORY.fullmatch(name) is None:
        raise ModelReferenceError(f"cannot read the model name {name!r}", hint=_FORMS)


def expand_user(path: Path) -> Path:
    """The path with `~` as the home folder; as it is where there is none, as for a nameless user in a container."""
    try:
        return path.expanduser()
    except (RuntimeError, ValueError):  # no home folder, or no path at all
        return path


def _looks_like_a_path(text: str) -> bool:
    name = text.partition("@")[0]
    return (
        text.startswith(_PATH_PREFIXES)
        or text in (".", "..")
        or "\\" in name
        or name.count("/") > 1
        or name[-1:] == "/"
    )


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:  # a name that is too long for a path, or a folder that this user may not enter
        return False


def _near_folder(path: Path) -> str:
    try:
        siblings = [child.name for child in path.parent.iterdir() if child.is_dir()]
    except (OSError, ValueError):  # no such folder, or no path at all
        return f"check the path; {str(path.parent)!r} is no folder either"
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f"did you mean {str(path.parent / near[0])!r}?" if near else "check the path"
