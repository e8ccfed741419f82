"""What was compiled from a model for another engine than torch, and how far that is from the model in torch."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field

from langchain_localhf.store.plain_data import FileEntries, GoldenVectors, PlainData

# The folder for it, inside of the model's own.
COMPILED_FOLDER = "openvino"
Precision = Literal["auto", "f32", "bf16", "int8", "int4"]


class Parity(PlainData):
    """How far an embedding model's graph is from the same model in torch, measured when it was compiled.

    Attributes:
        of: What was embedded; a dual encoder is measured with both.
        precision: The precision of the arithmetic that was measured.
        texts: How many texts, or images, were compared, each alone and in batches.
        lowest_cosine: Between the vectors of the graph and those of torch, the lowest of all texts.
        mean_cosine: The mean of all texts.
        batch_difference: The largest difference of a component between a text alone and the same text in a batch.
        neighbours_kept: For each text the share of its ten nearest neighbours that stay among its ten nearest, and the
            mean of that; None if the texts are too few.
    """

    of: Literal["texts", "images"] = "texts"
    precision: Precision
    texts: Annotated[int, Field(ge=1)]
    lowest_cosine: float
    mean_cosine: float
    batch_difference: float
    neighbours_kept: float | None = None


class ScoreParity(PlainData):
    """How far a cross-encoder's graph is from the same model in torch, measured when it was compiled.

    Differences are relative for scores above 1.

    Attributes:
        precision: The precision of the arithmetic that was measured.
        pairs: How many pairs of texts were compared, each alone and in batches.
        largest_difference: Between the scores of the graph and those of torch, the largest of all pairs.
        batch_difference: The largest difference between a pair alone and the same pair in a batch.
        order_kept: Which share of two pairs each are in the same order by their scores as in torch; the lowest of all
            labels.
    """

    precision: Precision
    pairs: Annotated[int, Field(ge=1)]
    largest_difference: float
    batch_difference: float
    order_kept: float


class Compilation(PlainData):
    """What lies in `openvino/` of a model's folder.

    Attributes:
        precision: The precision that was asked for; of a language model, that of its weights.
        versions: The versions of the libraries that made it.
        fingerprint: What identifies the vectors or scores of the graph; the model's own unless it is quantized. None
            for a language model.
        golden: Vectors, or scores, that the graph has to give at every load, with its own settings.
        parity: How far it is from torch, one entry for each precision that it can run in on the machine that made it;
            of a dual encoder two, for texts and for images.
        score_parity: The same of a cross-encoder.
        files: Its files, sorted by path; the paths begin with `openvino/`.
    """

    precision: Precision
    versions: dict[str, str]
    fingerprint: str | None = None
    golden: GoldenVectors | None = None
    parity: tuple[Parity, ...] = ()
    score_parity: tuple[ScoreParity, ...] = ()
    files: FileEntries

    @property
    def quantized(self) -> str | None:
        """What identifies the quantized weights; None where the model's own weights are in the graph."""
        if self.precision not in {"int8", "int4"}:
            return None
        hashes = "".join(f"{entry.path} {entry.sha256}\n" for entry in self.files if entry.path.endswith(".bin"))
        return hashlib.sha256(hashes.encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """The size of its files together."""
        return sum(entry.size_bytes for entry in self.files)
