"""From torch to a graph: traced, quantized if that is wanted, and compared with torch before anyone may use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from langchain_localhf.engines import golden
from langchain_localhf.engines.openvino.compile import (
    finish,
    libraries,
    native_precisions,
    quantize,
    write_graph,
)
from langchain_localhf.engines.openvino.encoder import OpenVINOEncoder
from langchain_localhf.engines.openvino.scorer import OpenVINOScorer
from langchain_localhf.engines.parity import (
    as_error,
    golden_pairs,
    golden_texts,
    keeps_promise,
    measure,
    measure_images,
    measure_scores,
)
from langchain_localhf.errors import InputError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.engines.base import Encoder, Scorer
    from langchain_localhf.store.compilation import Parity, Precision, ScoreParity
    from langchain_localhf.store.plain_data import GoldenVectors

_Parity = TypeVar("_Parity", "Parity", "ScoreParity")
# Ranges of whole numbers that were learned from fewer texts would be ranges of those texts only.
_LEAST_TEXTS = 32
_MOST_TEXTS = 300


@dataclass(frozen=True)
class Compiled(Generic[_Parity]):
    """What compiling a model found out; the graph itself is in its folder.

    Attributes:
        versions: The versions of the libraries that made it.
        golden: Vectors, or scores, that it has to give at every load.
        parity: How far it is from torch in each precision that it can run in here.
    """

    versions: dict[str, str]
    golden: GoldenVectors
    parity: tuple[_Parity, ...]


def compile_encoder(
    encoder: Encoder, checkpoint: Checkpoint, folder: Path, *, name: str, precision: Precision, texts: Sequence[str]
) -> Compiled[Parity]:
    """Compiles an embedding model.

    Args:
        encoder: The model, opened with the torch engine.
        checkpoint: What its files say.
        folder: An empty folder.
        name: The model's name, for messages.
        precision: `auto` for bf16 where the processor has it and the graph keeps its promise with it, else f32.
        texts: What to learn the ranges of int8 from; at least 32, and no more than 300 are used.

    Raises:
        InputError: int8 is asked for without enough texts.
        UnsupportedModelError: The model cannot be compiled, or not in this precision here.
        CheckpointError: The graph differs from torch by more than is promised.
    """
    check(precision, texts, reads_images=encoder.image_preparation is not None)
    golden_ones, learned = golden_texts(encoder.max_seq_length), _spread(texts, _MOST_TEXTS)
    pixels = _golden_pixels(encoder)

    def compared(one: Precision) -> list[Parity]:
        graph = OpenVINOEncoder(checkpoint, model_kwargs={}, folder=folder, precision=one)
        parity = [measure(encoder, graph, learned if one == "int8" else golden_ones, precision=one)]
        return parity if pixels is None else [*parity, measure_images(encoder, graph, pixels, precision=one)]

    parity = _compiled(encoder, folder, compared, name=name, precision=precision, texts=learned)
    graph = OpenVINOEncoder(checkpoint, model_kwargs={}, folder=folder)
    return Compiled(libraries(precision), golden.record(graph.probe_vectors), parity)


def compile_scorer(
    scorer: Scorer, checkpoint: Checkpoint, folder: Path, *, name: str, precision: Precision
) -> Compiled[ScoreParity]:
    """Compiles a cross-encoder.

    Args:
        scorer: The model, opened with the torch engine.
        checkpoint: What its files say.
        folder: An empty folder.
        name: The model's name, for messages.
        precision: `auto` for bf16 where the processor has it and the graph keeps its promise with it, else f32.

    Raises:
        UnsupportedModelError: The model cannot be compiled, or not in this precision here.
        CheckpointError: The graph differs from torch by more than is promised.
    """
    if precision in ("int8", "int4"):
        raise UnsupportedModelError(f"a cross-encoder has no {precision} graph", hint="use --precision auto, or f32")
    check(precision)
    pairs = golden_pairs(scorer.max_seq_length)

    def compared(one: Precision) -> list[ScoreParity]:
        graph = OpenVINOScorer(checkpoint, model_kwargs={}, folder=folder, precision=one)
        return [measure_scores(scorer, graph, pairs, precision=one)]

    parity = _compiled(scorer, folder, compared, name=name, precision=precision)
    graph = OpenVINOScorer(checkpoint, model_kwargs={}, folder=folder)
    return Compiled(libraries(precision), golden.record_scores(graph.probe_scores), parity)


def _compiled(
    model: Encoder | Scorer,
    folder: Path,
    compared: Callable[[Precision], list[_Parity]],
    *,
    name: str,
    precision: Precision,
    texts: Sequence[str] = (),
) -> tuple[_Parity, ...]:
    """Writes the graph, in the best precision that keeps its promise, and says how far it is from torch in each."""
    parity = _written(model, folder, compared, name=name)
    best = precision
    if precision == "int8":
        quantize(folder, texts)
        parity = compared("int8")
    elif precision != "f32" and "bf16" in native_precisions():
        parity += compared("bf16")
    else:
        best = "f32"
    if broken := _broken(parity):
        if precision != "auto":
            raise as_error(broken, name)
        best = "f32"
    finish(folder, best)
    return tuple(parity)


def _written(
    model: Encoder | Scorer, folder: Path, compared: Callable[[Precision], list[_Parity]], *, name: str
) -> list[_Parity]:
    """Writes the graph in f32, and says how far it is from torch; with attention written out if it has to be."""
    write_graph(model.traceable(), folder)
    parity = compared("f32")
    if _broken(parity):
        write_graph(model.traceable(eager_attention=True), folder)
        parity = compared("f32")
    if broken := _broken(parity):
        raise as_error(broken, name)
    return parity


def _broken(parity: Sequence[_Parity]) -> _Parity | None:
    """The first measurement that does not keep what is promised; None if all do."""
    return next((one for one in parity if not keeps_promise(one)), None)


def _golden_pixels(encoder: Encoder) -> NDArray[np.uint8] | None:
    """Images to compare with; None for a model that reads texts only."""
    if encoder.image_preparation is None:
        return None
    from langchain_localhf.engines.pictures import golden_pixels  # noqa: PLC0415 - needs Pillow, texts do not

    return golden_pixels(encoder.image_preparation)


def check(precision: Precision, texts: Sequence[str] = (), *, reads_images: bool = False) -> None:
    """Checks what a user asks for before a model is opened.

    Args:
        precision: What to calculate in.
        texts: What to learn the ranges of int8 from.
        reads_images: Whether the model is a dual encoder.

    Raises:
        InputError: int8 is asked for without enough texts.
        UnsupportedModelError: There is no such graph, or not on this machine.
    """
    if precision == "int4":
        raise UnsupportedModelError("an embedding model has no int4 graph", hint="use --precision int8, or auto")
    if precision == "bf16" and "bf16" not in native_precisions():
        msg = "this machine's processor does not calculate in bf16, so the graph cannot be compared with torch"
        raise UnsupportedModelError(msg, hint="use --precision auto, or compile on a processor that does")
    if precision == "int8" and reads_images:
        msg = "a model that reads images has no int8 graph, in which texts would no longer fit to its images"
        raise UnsupportedModelError(msg, hint="use --precision auto, or f32")
    if precision == "int8" and len(texts) < _LEAST_TEXTS:
        msg = f"int8 learns its ranges from texts like yours, at least {_LEAST_TEXTS}; there are {len(texts)}"
        raise InputError(msg, hint="--calibration FILE, a text a line")


def _spread(texts: Sequence[str], count: int) -> Sequence[str]:
    """At most `count` of the texts, from the first to the last at even distances."""
    step = max(1.0, len(texts) / count)
    return [texts[int(i * step)] for i in range(min(count, len(texts)))]
