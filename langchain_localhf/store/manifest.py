"""The manifest: what one model folder holds, as plain data in `localhf.json`.

Laws: `Manifest.from_json(m.to_json()) == m`, and the same files give the same bytes of JSON on every machine.
"""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError

from langchain_localhf.errors import IntegrityError, LockfileError
from langchain_localhf.store import files as model_files
from langchain_localhf.store.compilation import COMPILED_FOLDER, Compilation
from langchain_localhf.store.files import MANIFEST_NAME
from langchain_localhf.store.hashing import sha256_of
from langchain_localhf.store.plain_data import FileEntries, FileEntry, GoldenVectors, PlainData

if TYPE_CHECKING:
    from pathlib import Path

_HASHING_THREADS = 4


def _by_repository(origins: tuple[CodeOrigin, ...]) -> tuple[CodeOrigin, ...]:
    repositories = [origin.repository for origin in origins]
    if repositories != sorted(set(repositories)):
        raise ValueError("must be sorted by repository, each repository once")
    return origins


class CodeOrigin(PlainData):
    """A repository that some of a model's code is from, beside the model's own.

    Attributes:
        repository: The repository; its files are in `code/<org>--<name>/` of the model's folder.
        commit: The commit that they were at; None if an added folder did not say.
    """

    repository: Annotated[str, Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None


CodeOrigins = Annotated[tuple[CodeOrigin, ...], AfterValidator(_by_repository)]


class EncoderFacts(PlainData):
    """What an embedding model is, as its files say and as it was seen to run."""

    dimension: int
    max_seq_length: int | None
    pooling: tuple[str, ...]
    normalized: bool
    prompts: dict[str, str]


class SoundnessCheck(PlainData):
    """That the model was loaded and found sound, and with what.

    Attributes:
        versions: The versions of the libraries that loaded it.
        unused_weights: Tensors that the checkpoint does not hold and that were shown to change no vector.
        golden: Vectors that every later load has to give again.
    """

    versions: dict[str, str]
    unused_weights: tuple[str, ...] = ()
    golden: GoldenVectors | None = None


class Manifest(PlainData):
    """Everything known about one model folder.

    Attributes:
        format: The version of this format.
        name: The repository, such as `sentence-transformers/all-MiniLM-L6-v2`, or the name given to `add`.
        source: `hub` for a pulled model, `folder` for an added one.
        revision: The branch or tag that was asked for.
        commit: The commit that it stood for; None for an added model.
        files: Every file of the model, sorted by path.
        fingerprint: What identifies the vectors or scores of the model with its own settings; None for other models.
        encoder: What the embedding model is; None for another kind of model.
        check: The soundness check; None if no engine was installed to make it.
        trust_remote_code: Whether the user trusted the model's code when it came; without that it has none.
        code: The other repositories that its code is from, sorted.
        compiled: What was compiled from it, in `openvino/`; None if nothing was.
        packed: Whether the weights of `files` were left behind, since what was compiled runs without them.
    """

    format: Literal[1] = 1
    name: str
    source: Literal["hub", "folder"]
    revision: str | None = None
    commit: str | None = None
    fingerprint: str | None = None
    encoder: EncoderFacts | None = None
    check: SoundnessCheck | None = None
    trust_remote_code: bool = False
    code: CodeOrigins = ()
    compiled: Compilation | None = None
    packed: bool = False
    files: FileEntries

    @property
    def present(self) -> tuple[FileEntry, ...]:
        """The files that have to be in the folder."""
        return self.runtime_files if self.packed else self.files + self.compiled_files

    @property
    def compiled_files(self) -> tuple[FileEntry, ...]:
        """The files of what was compiled."""
        return self.compiled.files if self.compiled else ()

    @property
    def runtime_files(self) -> tuple[FileEntry, ...]:
        """The files that run what was compiled: without the model's own weights and its code."""
        descriptions = (entry for entry in self.files if not _runs(entry.path))
        return (*descriptions, *self.compiled_files)

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(entry.size_bytes for entry in self.present)

    @property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each file, by path."""
        return {entry.path: entry.sha256 for entry in self.files}

    @property
    def commits(self) -> dict[str, str]:
        """The commit of each repository that files or code are from, as far as it is known; the model's own is `""`."""
        known = {"": self.commit, **{origin.repository: origin.commit for origin in self.code}}
        return {repository: commit for repository, commit in known.items() if commit}

    @property
    def origin_command(self) -> str:
        """The command that brings the model here again."""
        trust = " --trust-remote-code" if self.trust_remote_code else ""
        if self.source == "folder":
            return f"localhf add{trust} PATH --as {self.name}"
        return f"localhf pull{trust} {self.name}@{self.commit or self.revision or 'main'}"

    def to_json(self) -> str:
        """The manifest as JSON text, ending in a newline."""
        return json.dumps(self.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str = MANIFEST_NAME) -> Self:
        """Reads a manifest.

        Args:
            text: The JSON text.
            source: Where it came from, for the message.

        Raises:
            LockfileError: The text is no manifest; the error says where it goes wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise unreadable(error, source) from error

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The manifest in `folder`, or None if there is none.

        Raises:
            LockfileError: The file is no manifest.
        """
        path = folder / MANIFEST_NAME
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls.from_json(text, source=str(path))

    def write(self, folder: Path) -> None:
        """Writes the manifest into `folder`, in one step: it is there whole, or not at all."""
        write_atomically(folder / MANIFEST_NAME, self.to_json())


@dataclass(frozen=True)
class Differences:
    """How a folder differs from its manifest; each a sorted tuple of paths."""

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing or self.extra)

    def as_error(self, manifest: Manifest) -> IntegrityError:
        """All differences as one error."""
        parts = [
            f"{len(paths)} {word}: {', '.join(paths)}"
            for word, paths in (("changed", self.changed), ("missing", self.missing), ("extra", self.extra))
            if paths
        ]
        again = manifest.origin_command
        if all(path.startswith(f"{COMPILED_FOLDER}/") for path in (*self.changed, *self.missing, *self.extra)):
            again = f"localhf compile --force {manifest.name}"
        return IntegrityError(
            f"the files of {manifest.name} differ from its manifest ({'; '.join(parts)})",
            changed=self.changed,
            missing=self.missing,
            extra=self.extra,
            hint=f"bring the files back: {again}",
        )


def compare(folder: Path, manifest: Manifest, *, compiled_only: bool = False) -> Differences:
    """Compares the files in `folder` with `manifest`: sizes, hashes, and anything extra that could change the model.

    Extra code and extra weights are never right. An extra `modules.json` or tokenizer file would be read on load, and
    would change the vectors behind the back of the fingerprint. A file for people may lie beside the model.

    Args:
        folder: The model's folder.
        manifest: What it should hold.
        compiled_only: Whether only what was compiled is to run, so that the model's own weights do not matter.
    """
    present = set(model_files.files_in(folder))
    listed = {entry.path: entry for entry in (manifest.runtime_files if compiled_only else manifest.present)}
    if compiled_only:
        present = {path for path in present if path in listed or not _runs(path)}
    here = [entry for entry in listed.values() if entry.path in present]
    with ThreadPoolExecutor(_HASHING_THREADS) as pool:
        same = pool.map(lambda entry: _matches(folder / entry.path, entry), here)
        changed = [entry.path for entry, matches in zip(here, same, strict=True) if not matches]
    unlisted = present - listed.keys()
    extra = {path for path in unlisted if _runs(path)}
    extra.update(model_files.shape_vectors(unlisted))
    return Differences(
        changed=tuple(sorted(changed)),
        missing=tuple(sorted(listed.keys() - present)),
        extra=tuple(sorted(extra)),
    )


def describe(folder: Path, paths: list[str]) -> tuple[FileEntry, ...]:
    """Sizes and hashes of the files at `paths` in `folder`, sorted by path."""
    ordered = sorted(paths)
    with ThreadPoolExecutor(_HASHING_THREADS) as pool:
        hashes = pool.map(lambda path: sha256_of(folder / path), ordered)
        return tuple(
            FileEntry(path=path, size_bytes=(folder / path).stat().st_size, sha256=digest)
            for path, digest in zip(ordered, hashes, strict=True)
        )


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unreadable(error: ValidationError, source: str) -> LockfileError:
    """A validation error as one that says where in the file the first problem is."""
    first = error.errors(include_url=False)[0]
    context = ""
    for part in first["loc"]:
        context += f"[{part}]" if isinstance(part, int) else f".{part}" if context else str(part)
    return LockfileError(f"cannot read {source}: {first['msg']}", context=context)


def _runs(path: str) -> bool:
    return model_files.is_code(path) or model_files.is_weights(path)


def _matches(path: Path, entry: FileEntry) -> bool:
    # A size costs nothing; only a file of the right size is worth hashing.
    return path.stat().st_size == entry.size_bytes and sha256_of(path) == entry.sha256
