"""A model that runs, as everyone who uses it holds it: where it came from, and what identifies its vectors."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from langchain_localhf.checkpoint.fingerprint import fingerprint, shaping_files
from langchain_localhf.engines import golden
from langchain_localhf.errors import CheckpointError, InputError, IntegrityError
from langchain_localhf.store import files as model_files
from langchain_localhf.store.manifest import describe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.engines.base import Encoder, Generator, Scorer
    from langchain_localhf.store.compilation import Compilation
    from langchain_localhf.store.manifest import SoundnessCheck
    from langchain_localhf.store.model_store import LocalModel

FileState = dict[str, tuple[int, ...]]
# Neutral for vectors, whose prompts are looked at apart; a score depends on them.
_PROMPTS = {"prompts", "default_prompt_name"}


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model that runs, and where it came from. Several objects may hold the same one.

    Attributes:
        model: The model's name, folder and manifest.
        checkpoint: What its files say.
        settings: The settings it was loaded with.
        file_state: What shows, for each file by its path, whether it is still the one that was loaded.
    """

    model: LocalModel
    checkpoint: Checkpoint
    settings: dict[str, Any]
    file_state: FileState

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: copies of the object that holds it share the model."""
        return self


@dataclass(frozen=True, eq=False)
class LoadedGenerator(LoadedModel):
    """A language model that runs.

    Attributes:
        generator: The engine that runs it.
    """

    generator: Generator


@dataclass(frozen=True, eq=False)
class LoadedEncoder(LoadedModel):
    """An embedding model that runs.

    Attributes:
        encoder: The engine that runs it.
        pooling: The pooling that the user stated for a plain transformer checkpoint.
        model_kwargs: What was passed on to the engine.
        is_compiled: Whether the engine runs what was compiled from the model, and not the model's own weights.
    """

    encoder: Encoder
    pooling: str | None
    model_kwargs: dict[str, Any]
    is_compiled: bool = False

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The sha256 of each file, by path: from the manifest, else computed now.

        Raises:
            IntegrityError: There is no manifest, and the files are no longer those that were loaded.
        """
        if self.model.manifest is not None:
            return self.model.manifest.hashes
        paths = shaping_files(self.checkpoint, self.checkpoint.files)
        changed = dict(self.file_state.items() ^ file_state_of(self.model).items())
        if changed:
            msg = f"files of {self.model.folder} were changed after it was loaded: {', '.join(sorted(changed))}"
            raise IntegrityError(msg, changed=sorted(changed), hint="make a new object to load them as they are now")
        return {entry.path: entry.sha256 for entry in describe(self.checkpoint.folder, paths)}

    def fingerprint(self, encode_kwargs: Mapping[str, Any] | None = None) -> str:
        """What identifies the vectors of documents that are encoded with these settings."""
        return fingerprint(
            self.checkpoint,
            self.hashes,
            pooling=self.pooling,
            model_kwargs=self.model_kwargs,
            encode_kwargs=encode_kwargs,
            quantized=self._quantized,
        )

    @property
    def _quantized(self) -> str | None:
        manifest = self.model.manifest
        return manifest.compiled.quantized if self.is_compiled and manifest and manifest.compiled else None


@dataclass(frozen=True, eq=False)
class LoadedScorer(LoadedModel):
    """A cross-encoder that runs.

    Attributes:
        scorer: The engine that runs it.
        model_kwargs: What was passed on to the engine.
        is_compiled: Whether the engine runs what was compiled from the model, and not the model's own weights.
    """

    scorer: Scorer
    model_kwargs: dict[str, Any]
    is_compiled: bool = False

    def fingerprint(self) -> str | None:
        """What identifies the scores; None where nothing says what the files are, or the user states prompts."""
        manifest = self.model.manifest
        if manifest is None or self.model_kwargs.keys() & _PROMPTS:
            return None
        return fingerprint(self.checkpoint, manifest.hashes, model_kwargs=self.model_kwargs)

    def place_of(self, label: int | str | None = None) -> int:
        """The place of the label that says how relevant one text is to the other.

        Args:
            label: Its place or its name; None for the only label, or for the second of two, which models for relevance
                have after the one for what is irrelevant.

        Raises:
            InputError: There is no such label, or there are several and none is named.
        """
        count, named = self.scorer.labels, self.checkpoint.config.get("id2label")
        names = [str(named.get(str(place), place)) if isinstance(named, dict) else str(place) for place in range(count)]
        if label is None and count <= 2:  # noqa: PLR2004 - as said above
            return count - 1
        if label in names:
            return names.index(str(label))
        if isinstance(label, int) and 0 <= label < count:
            return label
        if label is None:
            msg = f"{self.model.name} gives each pair {count} scores, one a label, and nothing says which one is meant"
        else:
            msg = f"{self.model.name} has no label {label!r}"
        raise InputError(msg, hint=f"label should be one of {', '.join(map(repr, names))}")

    def relevance(
        self, pairs: Sequence[tuple[str, str]], *, label: int | str | None = None, batch_size: int | None = None
    ) -> NDArray[np.float32]:
        """One score a pair, whatever labels the model has; see `place_of` and `Scorer.score`.

        Returns:
            Shape: `(len(pairs),)`, in the order of the pairs; not every one need be finite.
        """
        place = self.place_of(label)
        scores = self.scorer.score(pairs, batch_size=batch_size)
        return scores if scores.ndim == 1 else scores[:, place]


def compare_with_golden(loaded: LoadedEncoder | LoadedScorer) -> None:
    """Compares what a model gives now with what it gave when it was checked, if that was with these settings.

    Raises:
        CheckpointError: It gives something else.
    """
    manifest = loaded.model.manifest
    if manifest is None:
        return
    checked: SoundnessCheck | Compilation | None = manifest.check
    made, again = manifest.fingerprint, manifest.origin_command
    if loaded.is_compiled and manifest.compiled:
        checked, made = manifest.compiled, manifest.compiled.fingerprint
        again = f"localhf compile --force {manifest.name}"
    if checked is None or checked.golden is None or loaded.fingerprint() != made:  # other settings, other vectors
        return
    if isinstance(loaded, LoadedScorer):
        engine, what = loaded.scorer.versions, "scores"
        difference = golden.largest_difference(loaded.scorer.probe_scores, checked.golden)
        is_same, how_far = difference <= golden.MAX_SCORE_DIFFERENCE, f"difference {difference:.4f}"
    else:
        engine, what = loaded.encoder.versions, "vectors"
        cosine = golden.lowest_cosine(loaded.encoder.probe_vectors, checked.golden)
        is_same, how_far = cosine >= golden.MIN_COSINE, f"cosine {cosine:.4f}"
    if not is_same:
        msg = (
            f"{manifest.name} gives other {what} than when it was checked ({how_far}); "
            f"then: {_versions(checked.versions)}; now: {_versions(engine)}"
        )
        raise CheckpointError(msg, hint=f"install the versions from then, or check the model anew with these: {again}")


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def file_state_of(model: LocalModel) -> FileState:
    """What shows, for each file of a model by its path, whether it was changed since; no file is read."""
    paths = [""] if model.folder.is_file() else model_files.files_in(model.folder)  # GGUF is one file
    stats = {path: (model.folder / path if path else model.folder).stat() for path in paths}
    return {path: (status.st_ino, status.st_size, status.st_mtime_ns) for path, status in stats.items()}
