"""The door of the store: what is complete, safe and sound goes in, in one step; anything else is deleted."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from langchain_localhf import engines
from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.checkpoint.fingerprint import fingerprint
from langchain_localhf.engines import golden
from langchain_localhf.errors import CheckpointError, IntegrityError, StoreError
from langchain_localhf.loading import open_model, open_scorer
from langchain_localhf.store import files as model_files
from langchain_localhf.store.manifest import EncoderFacts, SoundnessCheck, describe
from langchain_localhf.store.model_store import LocalModel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langchain_localhf.store.manifest import Manifest
    from langchain_localhf.store.model_store import ModelStore


def admit(store: ModelStore, staged: Path, manifest: Manifest) -> LocalModel:
    """Checks a staged folder, completes its manifest, and puts it in place.

    Args:
        store: The store.
        staged: The folder, with the files of the model.
        manifest: Its name, origin and trust; `files` are those that a lockfile demands, or empty.

    Raises:
        CheckpointError: The model is incomplete, unsafe or unsound.
        IncompleteModelError: Files are missing.
        IntegrityError: The files are not the ones that `manifest` demands.
    """
    with _discarded_if_refused(staged):
        checkpoint = Checkpoint.read(staged)
        checkpoint.require_trust(
            trust_remote_code=manifest.trust_remote_code, name=manifest.name, commits=manifest.commits
        )
        checkpoint.require_complete()
        code = [path for path in checkpoint.files if model_files.is_code(path)]  # there only if it is trusted
        files = describe(staged, [*model_files.needed(checkpoint.files), *code])
        if manifest.files and files != manifest.files:
            changed = sorted({file.path for file in {*files} ^ {*manifest.files}})
            msg = f"files of {manifest.name} are not those that the lockfile says: {', '.join(changed)}"
            raise IntegrityError(msg, changed=changed, hint="find out who changed the lockfile, or the repository")
        complete = _inspected(manifest.model_copy(update={"files": files}), staged, checkpoint)
    complete.write(staged)
    return store.put(manifest.name, staged)


def _inspected(manifest: Manifest, staged: Path, checkpoint: Checkpoint) -> Manifest:
    """The manifest with everything that only an embedding model or a cross-encoder has, found out by loading it."""
    if checkpoint.is_cross_encoder:
        return _inspected_scorer(manifest, staged, checkpoint)
    if not checkpoint.is_encoder:
        return manifest
    known = manifest.model_copy(update={"fingerprint": fingerprint(checkpoint, manifest.hashes)})
    if not engines.installed():
        return known
    # Vectors do not depend on the device, but for rounding; the CPU is the one that every machine has.
    settings = {"device": "cpu", "trust_remote_code": manifest.trust_remote_code}
    encoder = open_model(LocalModel(manifest.name, staged, known), pooling=None, model_kwargs=settings).encoder
    facts = EncoderFacts(
        dimension=encoder.dimension,
        max_seq_length=encoder.max_seq_length,
        pooling=checkpoint.pooling,
        normalized=checkpoint.normalizes,
        prompts=checkpoint.prompts,
    )
    check = SoundnessCheck(
        versions=dict(encoder.versions),
        unused_weights=encoder.unused_weights,
        golden=golden.record(encoder.probe_vectors),
    )
    return known.model_copy(update={"encoder": facts, "check": check})


def _inspected_scorer(manifest: Manifest, staged: Path, checkpoint: Checkpoint) -> Manifest:
    known = manifest.model_copy(update={"fingerprint": fingerprint(checkpoint, manifest.hashes)})
    if not engines.installed():
        return known
    settings = {"device": "cpu", "trust_remote_code": manifest.trust_remote_code}
    scorer = open_scorer(LocalModel(manifest.name, staged, known), model_kwargs=settings).scorer
    check = SoundnessCheck(
        versions=dict(scorer.versions),
        unused_weights=scorer.unused_weights,
        golden=golden.record_scores(scorer.probe_scores),
    )
    return known.model_copy(update={"check": check})


@contextlib.contextmanager
def _discarded_if_refused(staged: Path) -> Iterator[None]:
    """Deletes a staged model that turns out to be none; fetching it again would not make it better."""
    try:
        yield
    except (CheckpointError, StoreError):
        shutil.rmtree(staged, ignore_errors=True)
        raise


def is_checked(model: LocalModel) -> bool:
    """Whether the model was loaded and found sound when it came, or is of a kind that cannot be."""
    manifest = model.manifest
    return manifest is not None and (manifest.fingerprint is None or manifest.check is not None)
