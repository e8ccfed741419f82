"""How near two engines are to each other with the same model: the texts to try, and what to measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from langchain_localhf.errors import CheckpointError
from langchain_localhf.store.compilation import Parity, ScoreParity

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from langchain_localhf.engines.base import Encoder, InputKind, Scorer
    from langchain_localhf.store.compilation import Precision

# The least that a graph has to give, for every text. A wrong mask, pooling or branch is far below.
LEAST_COSINE = {"f32": 0.99999, "bf16": 0.9995, "int8": 0.9}
# The largest difference between a text alone and in a batch, of a vector of length 1.
LARGEST_BATCH_DIFFERENCE = {"f32": 1e-5, "bf16": 2e-2, "int8": 2e-2}
# The largest difference of a score, relative where it is above 1: from torch, and between a pair alone and in a batch.
# Rounding alone leaves 1e-6 in f32, and 1e-5 where a classifier's weights are large and nothing scales its scores.
LARGEST_SCORE_DIFFERENCE = {"f32": 1e-4, "bf16": 2e-2}
_BATCHINGS: tuple[dict[str, int], ...] = ({"batch_size": 1}, {"batch_size": 2}, {"batch_size": 7}, {})
_NEIGHBOURS = 10

_TEXTS = (
    "a",
    "",
    "  two leading spaces, and\ttabs\nand lines  ",
    "The ships sail out of the harbour at dawn.",
    "THE QUICK brown Fox; jumped, over: 12,345.67 lazy dogs?!",
    "Die Größe der naïven Café-Besucher überrascht Łukasz.",
    "Привет, как дела? Сегодня хорошая погода.",
    "東京は日本の首都です。今日は天気がいいですね。",
    "مرحبا بالعالم، كيف حالك اليوم؟",
    "नमस्ते दुनिया, आज मौसम अच्छा है",
    "👩‍👩‍👧 🏳️‍🌈 😀 emoji, and e\u0301 with a mark of its own",
    "def f(x):\n    return {'a': [x ** 2, None]}  # code",
    "https://example.org/a/b?c=d&e=f#g",
)
_WORDS = ["harbour", "ship", "dawn", "quick", "river", "stone", "letter", "garden", "winter", "paper"]
_LENGTHS = (2, 3, 5, 9, 17, 33, 65, 129, 257)


def golden_texts(max_tokens: int | None) -> list[str]:
    """Texts of many lengths and scripts; one of them is longer than the model reads."""
    limit = max_tokens or 512
    lengths = [length for length in _LENGTHS if length < limit] + [limit // 2, limit - 2, limit + 20]
    return [*_TEXTS, *(" ".join(_WORDS[i % len(_WORDS)] for i in range(length)) for length in lengths)]


def golden_pairs(max_tokens: int | None) -> list[tuple[str, str]]:
    """Pairs of many lengths and scripts: a text with itself, with the next one, and the shortest with the longest."""
    texts = golden_texts(max_tokens)
    turned = texts[1:] + texts[:1]
    return [*zip(texts, turned, strict=True), *zip(texts, texts, strict=True), *zip(texts, texts[::-1], strict=True)]


def measure(reference: Encoder, candidate: Encoder, texts: Sequence[str], *, precision: Precision) -> Parity:
    """Compares an engine with the one that is right, text by text: alone, in small batches, and all together.

    Args:
        reference: The engine that is right.
        candidate: The other one.
        texts: The texts; embedded as documents and as queries.
        precision: What the other one calculates in.
    """
    kinds: tuple[InputKind, ...] = ("document", "query")
    trials = [
        (
            reference.encode(texts, kind=kind, encode_kwargs={}),
            [candidate.encode(texts, kind=kind, encode_kwargs=settings) for settings in _BATCHINGS],
        )
        for kind in kinds
    ]
    return _parity(trials, of="texts", precision=precision)


def measure_images(
    reference: Encoder, candidate: Encoder, pixels: NDArray[np.uint8], *, precision: Precision
) -> Parity:
    """Compares an engine with the one that is right, image by image: alone, in small batches, and all together.

    Args:
        reference: The engine that is right.
        candidate: The other one.
        pixels: The images, resized and cropped. Shape: `(images, height, width, 3)`.
        precision: What the other one calculates in.
    """
    right = reference.encode_images(pixels, encode_kwargs={})
    found = [candidate.encode_images(pixels, encode_kwargs=settings) for settings in _BATCHINGS]
    return _parity([(right, found)], of="images", precision=precision)


def measure_scores(
    reference: Scorer, candidate: Scorer, pairs: Sequence[tuple[str, str]], *, precision: Precision
) -> ScoreParity:
    """Compares a cross-encoder with the one that is right, pair by pair: alone, in small batches, and all together.

    Args:
        reference: The engine that is right.
        candidate: The other one.
        pairs: The pairs of texts.
        precision: What the other one calculates in.
    """
    right = _rows(reference.score(pairs))
    alone, *batched = (_rows(candidate.score(pairs, **settings)) for settings in _BATCHINGS)
    scale = np.maximum(1.0, np.abs(right))
    return ScoreParity(
        precision=precision,
        pairs=len(pairs),
        largest_difference=_largest((right - scores) / scale for scores in (alone, *batched)),
        batch_difference=_largest((scores - alone) / scale for scores in batched),
        order_kept=min(_order_kept(*columns) for columns in zip(right.T, batched[-1].T, strict=True)),
    )


def keeps_promise(parity: Parity | ScoreParity) -> bool:
    """Whether the engine may be used."""
    if isinstance(parity, ScoreParity):
        return max(parity.largest_difference, parity.batch_difference) <= LARGEST_SCORE_DIFFERENCE[parity.precision]
    return (
        parity.lowest_cosine >= LEAST_COSINE[parity.precision]
        and parity.batch_difference <= LARGEST_BATCH_DIFFERENCE[parity.precision]
    )


def as_error(parity: Parity | ScoreParity, name: str) -> CheckpointError:
    """Why a graph is not used."""
    if isinstance(parity, ScoreParity):
        what = (
            f"scores than torch: they differ by up to {parity.largest_difference:.1e} for {parity.pairs} pairs, and by "
            f"{parity.batch_difference:.1e} between a pair alone and in a batch; promised is "
            f"{LARGEST_SCORE_DIFFERENCE[parity.precision]:.0e}"
        )
    else:
        what = (
            f"vectors than torch: lowest cosine {parity.lowest_cosine:.7f} of {parity.texts} {parity.of}, and "
            f"{parity.batch_difference:.1e} between one of them alone and in a batch; promised are "
            f"{LEAST_COSINE[parity.precision]} and {LARGEST_BATCH_DIFFERENCE[parity.precision]:.0e}"
        )
    return CheckpointError(
        f"the graph of {name} in {parity.precision} gives other {what}",
        hint='nothing was written; use the model with backend="torch"',
    )


def _rows(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    return scores.reshape(len(scores), -1).astype(np.float64)


def _largest(differences: Iterable[NDArray[np.float64]]) -> float:
    largest = max(float(np.max(np.nan_to_num(np.abs(found), nan=np.inf))) for found in differences)
    return float(f"{largest:.2e}")


def _order_kept(right: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    first, second = np.triu_indices(len(right), 1)
    kept = np.sign(right[first] - right[second]) == np.sign(other[first] - other[second])
    return float(round(np.mean(kept), 4))


def _parity(
    trials: Sequence[tuple[NDArray[Any], Sequence[NDArray[Any]]]],
    *,
    of: Literal["texts", "images"],
    precision: Precision,
) -> Parity:
    """Compares vectors that are right with those of another engine: alone first, then in batches, all of them last."""
    cosines, differences = [], []
    for right, found in trials:
        alone, *batched = map(_unit, found)
        cosines += [np.sum(_unit(right) * vectors, axis=1) for vectors in (alone, *batched)]
        differences += [np.max(np.abs(vectors - alone)) for vectors in batched]
    right, found = trials[0]
    return Parity(
        of=of,
        precision=precision,
        texts=len(right),
        lowest_cosine=_rounded(np.min(cosines)),
        mean_cosine=_rounded(np.mean(cosines)),
        batch_difference=float(f"{np.max(differences):.2e}"),
        neighbours_kept=_neighbours_kept(_unit(right), _unit(found[-1])),
    )


def _unit(found: NDArray[Any]) -> NDArray[np.float64]:
    vectors = found.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float64] = np.nan_to_num(vectors / np.maximum(lengths, np.finfo(np.float32).tiny))
    return unit


def _neighbours_kept(right: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    if len(right) <= 2 * _NEIGHBOURS:
        return None
    before, after = (_nearest(vectors) for vectors in (right, other))
    shares = [len(np.intersect1d(one, two)) / _NEIGHBOURS for one, two in zip(before, after, strict=True)]
    return float(round(np.mean(shares), 4))


def _nearest(vectors: NDArray[np.float64]) -> NDArray[np.int64]:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    nearest: NDArray[np.int64] = np.argsort(-similarity, axis=1)[:, :_NEIGHBOURS]
    return nearest


def _rounded(cosine: np.floating) -> float:
    return float(np.floor(cosine * 1e8) / 1e8)
