"""The lockfile: exactly which models a project depends on, as TOML that is a pleasure to review.

Laws: `Lockfile.from_toml(l.to_toml()) == l`, and the same models give the same text on every machine, in any order.
"""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Annotated, Literal, Self

import tomli_w
from pydantic import AfterValidator, Field, ValidationError, model_validator

from langchain_localhf.errors import LockfileError
from langchain_localhf.store.manifest import CodeOrigins, Manifest, unreadable, write_atomically
from langchain_localhf.store.plain_data import FileEntries, PlainData

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LOCKFILE_NAME = "localhf.lock"

_HEADER = "# Written by localhf; `localhf pull --locked` brings exactly these bytes, or fails.\n"


class LockedModel(PlainData):
    """One model, byte for byte.

    Attributes:
        name: The repository, or the name given to `add`.
        source: `hub` for a model that can be pulled, `folder` for one that must be added by hand.
        revision: The branch or tag that was asked for.
        commit: The commit that it stood for; None for an added model.
        fingerprint: What identifies its vectors; None if it makes none.
        trust_remote_code: Whether it was brought with trust in its code.
        code: The other repositories that its code is from, sorted.
        files: Every file, sorted by path.
    """

    name: Annotated[str, Field(min_length=1)]
    source: Literal["hub", "folder"]
    revision: str | None = None
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    fingerprint: str | None = None
    trust_remote_code: bool = False
    code: CodeOrigins = ()
    files: FileEntries

    @model_validator(mode="after")
    def _pulled_models_have_a_commit(self) -> Self:
        if self.source == "hub" and self.commit is None:
            msg = "a model from the hub needs a commit"
            raise ValueError(msg)
        if self.source == "hub" and not all(origin.commit for origin in self.code):
            msg = "code from the hub needs a commit"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _code_is_trusted(self) -> Self:
        if self.code and not self.trust_remote_code:
            msg = "a model with code needs trust_remote_code"
            raise ValueError(msg)
        return self

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> Self:
        """What the lockfile says of a model with this manifest."""
        return cls(
            name=manifest.name,
            source=manifest.source,
            revision=manifest.revision,
            commit=manifest.commit,
            fingerprint=manifest.fingerprint,
            trust_remote_code=manifest.trust_remote_code,
            code=manifest.code,
            files=manifest.files,
        )

    @property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each file, by path."""
        return {entry.path: entry.sha256 for entry in self.files}


def _with_unique_names(models: tuple[LockedModel, ...]) -> tuple[LockedModel, ...]:
    names = [model.name for model in models]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"listed twice: {', '.join(twice)}"
        raise ValueError(msg)
    return models


class Lockfile(PlainData):
    """The models that a project depends on, sorted by name.

    Attributes:
        format: The version of this format.
        models: The models.
    """

    format: Literal[1] = 1
    models: Annotated[tuple[LockedModel, ...], AfterValidator(_with_unique_names)] = ()

    @classmethod
    def of(cls, models: Iterable[LockedModel]) -> Self:
        """A lockfile of these models, in whatever order they come."""
        return cls(models=tuple(sorted(models, key=lambda model: model.name)))

    def updated(self, models: Iterable[LockedModel]) -> Self:
        """The same lockfile with these models added, each in the place of the one with its name."""
        return self.of({model.name: model for model in (*self.models, *models)}.values())

    def to_toml(self) -> str:
        """The lockfile as TOML text."""
        # What a model does not have is not written, so that trust in code catches the eye.
        models = [model.model_dump(mode="json", exclude_defaults=True) for model in self.models]
        return _HEADER + tomli_w.dumps({"format": self.format, "models": models})

    @classmethod
    def from_toml(cls, text: str, *, source: str = LOCKFILE_NAME) -> Self:
        """Reads a lockfile.

        Args:
            text: The TOML text.
            source: Where it came from, for the message.

        Raises:
            LockfileError: The text is no lockfile; the error says where it goes wrong.
        """
        try:
            # By way of JSON, because only there a strict model takes an array for a tuple.
            return cls.model_validate_json(json.dumps(tomllib.loads(text), default=str))
        except tomllib.TOMLDecodeError as error:
            msg = f"cannot read {source}: {error}"
            raise LockfileError(msg, hint=_RESTORE) from error
        except ValidationError as error:
            raise unreadable(error, source) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the lockfile at `path`.

        Raises:
            LockfileError: There is none, or it cannot be read.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            msg = f"there is no lockfile {path}"
            raise LockfileError(
                msg, hint=f"write one from the models in the store: localhf lock --file {path}"
            ) from error
        except UnicodeDecodeError as error:
            msg = f"cannot read {path}: it is no UTF-8 text"
            raise LockfileError(msg, hint=_RESTORE) from error
        return cls.from_toml(text, source=str(path))

    def write(self, path: Path) -> None:
        """Writes the lockfile in one step: a reader sees the old one or the new one, never a part."""
        write_atomically(path, self.to_toml())


_RESTORE = "restore it from version control"
