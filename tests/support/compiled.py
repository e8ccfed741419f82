"""Models that were compiled for OpenVINO, made once a run and copied for tests that change them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING
from unittest.mock import patch

from langchain_localhf import provisioning
from support import checkpoints, dual_encoders

if TYPE_CHECKING:
    from langchain_localhf.store.model_store import LocalModel

# Plain words, so that whole numbers can be learned from them, too.
CALIBRATION = [f"the {word} number {i} of the day" for i in range(10) for word in ("ship", "river", "stone", "letter")]


@cache
def minilm(precision: str = "f32") -> LocalModel:
    """The real all-MiniLM-L6-v2, compiled, in a store of its own; do not change it."""
    return _compiled(checkpoints.minilm_folder(), "sentence-transformers/all-MiniLM-L6-v2", precision)


@cache
def tiny(precision: str = "f32") -> LocalModel:
    """A tiny model, compiled, in a store of its own; do not change it."""
    return _compiled(checkpoints.sentence_transformer(Path(mkdtemp()) / "source"), "org/tiny", precision)


def _compiled(folder: Path, name: str, precision: str) -> LocalModel:
    with patch.dict(os.environ, {"LOCALHF_HOME": mkdtemp()}):
        added = provisioning.add(folder, name)
        return provisioning.compile_model(added, precision=precision, texts=CALIBRATION)  # type: ignore[arg-type]


@cache
def cross_encoder(labels: int = 1, precision: str = "f32") -> LocalModel:
    """A tiny cross-encoder, compiled, in a store of its own; do not change it."""
    folder = checkpoints.cross_encoder(Path(mkdtemp()) / "source", labels=labels)
    return _compiled(folder, "org/tiny-cross-encoder", precision)


@cache
def dual_encoder(family: str = "clip", precision: str = "f32") -> LocalModel:
    """A tiny dual encoder of `support.dual_encoders`, compiled, in a store of its own; do not change it."""
    folder = getattr(dual_encoders, family)(Path(mkdtemp()) / "source")
    return _compiled(folder, f"org/{family}", precision)
