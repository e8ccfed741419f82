"""What a model name means: a folder, or a repository and perhaps a revision."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from langchain_localhf.errors import ModelNotFoundError, ModelReferenceError

DEFAULT_ORGANISATION = "sentence-transformers"

_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_REPOSITORY = re.compile(rf"(?P<repository>(?:{_PART}/)?{_PART})(?:@(?P<revision>[^\s@]+))?")
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
    """

    text: str
    folder: Path | None = None
    repositories: tuple[str, ...] = ()
    revision: str | None = None

    @classmethod
    def parse(cls, text: str, *, revision: str | None = None) -> Reference:
        """Reads a model name.

        Args:
            text: A folder, `org/name`, `name`, or either with `@revision`.
            revision: A revision given beside the name, such as `model_kwargs["revision"]`.

        Raises:
            ModelReferenceError: The name has none of these forms, or two revisions are given.
            ModelNotFoundError: The name looks like a path and no folder is there. It is never taken for a repository.
        """
        if not isinstance(text, str) or not text.strip():
            msg = f"a model name must be a non-empty string, not {text!r}"
            raise ModelReferenceError(msg, hint=_FORMS)
        path = Path(text)
        if text.startswith("~"):
            path = _expand_user(path)
        if path.is_dir():
            return cls(text=text, folder=path, revision=revision)
        if path.is_file():
            msg = f"{text!r} is a file; a model is a folder"
            raise ModelReferenceError(msg, hint=f"use its folder: {str(path.parent)!r}")
        if _looks_like_a_path(text):
            msg = f"there is no folder at {text!r}"
            raise ModelNotFoundError(msg, looked_in=(str(path.absolute()),), hint=_near_folder(path))
        return cls._parse_repository(text, revision)

    @classmethod
    def _parse_repository(cls, text: str, revision: str | None) -> Reference:
        match = _REPOSITORY.fullmatch(text)
        if match is None or "--" in match["repository"] or ".." in match["repository"]:
            msg = f"cannot read the model name {text!r}"
            raise ModelReferenceError(msg, hint=_FORMS)
        written = match["revision"]
        if written and revision and written != revision:
            msg = f"two revisions are given: {text!r} and revision={revision!r}"
            raise ModelReferenceError(msg, hint="give one of them")
        repository = match["repository"]
        candidates = (repository,) if "/" in repository else (f"{DEFAULT_ORGANISATION}/{repository}", repository)
        return cls(text=text, repositories=candidates, revision=written or revision)

    @property
    def command_argument(self) -> str:
        """The name as `localhf pull` takes it, with the revision."""
        bare = self.text.partition("@")[0]
        return f"{bare}@{self.revision}" if self.revision else bare


def _looks_like_a_path(text: str) -> bool:
    name = text.partition("@")[0]
    return (
        text.startswith(_PATH_PREFIXES)
        or text in (".", "..")
        or "\\" in name
        or name.count("/") > 1
        or name[-1:] == "/"
    )


def _expand_user(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:  # no home folder, as for a nameless user in a container
        return path


def _near_folder(path: Path) -> str:
    try:
        siblings = [child.name for child in path.parent.iterdir() if child.is_dir()]
    except OSError:
        return f"check the path; {str(path.parent)!r} is no folder either"
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f"did you mean {str(path.parent / near[0])!r}?" if near else "check the path"
