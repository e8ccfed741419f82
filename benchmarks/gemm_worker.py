"""How fast this machine multiplies matrices of a model's shapes: the limit of whatever runs the model on it.

The products of texts with the weights, layer after layer as one OpenVINO graph, and nothing else: no attention, no
normalisation, no padding. The fastest of several ways counts. See `protocol.py` for how it is asked.
"""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov
from openvino import opset13 as ops
from protocol import serve
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ROWS = (2048, 8192)
_HINTS = ("LATENCY", "THROUGHPUT")


def widths(shape: dict[str, int]) -> list[int]:
    """From how many numbers a token to how many, product by product: four of attention and two after it, each layer."""
    hidden, inner = shape["hidden_size"], shape["intermediate_size"]
    return [hidden] + [hidden, hidden, hidden, hidden, inner, hidden] * shape["num_hidden_layers"]


def operations(shape: dict[str, int], tokenizer: str, path: str, max_tokens: int) -> float:
    """The multiplications and additions in the matrix products of a text, attention's own too; the mean of a file's."""
    steps = widths(shape)
    weights = sum(one * other for one, other in pairwise(steps))
    pairs = 2 * shape["hidden_size"] * shape["num_hidden_layers"]
    read = Tokenizer.from_file(tokenizer)
    read.no_padding()
    read.enable_truncation(max_tokens)
    counts = [len(text.ids) for text in read.encode_batch(json.loads(Path(path).read_text(encoding="utf-8")))]
    return sum(2 * (weights * count + pairs * count**2) for count in counts) / len(counts)


def rate(shape: dict[str, int], precision: str, seconds: float) -> float:
    """The most operations a second of any way to multiply; each is tried for so many seconds."""
    source = np.random.default_rng(0)
    steps = widths(shape)
    weights = [source.standard_normal(size, dtype=np.float32) / np.float32(size[0] ** 0.5) for size in pairwise(steps)]
    best = 0.0
    for rows in _ROWS:
        work = 2 * rows * sum(weight.size for weight in weights)
        inputs = source.standard_normal((rows, steps[0]), dtype=np.float32)
        for hint in _HINTS:
            best = max(best, work * _calls_a_second(_products(weights, inputs, precision, hint), seconds))
    return best


def _products(weights: Sequence[Any], inputs: Any, precision: str, hint: str) -> Callable[[], int]:  # noqa: ANN401 - arrays
    parameter = node = ops.parameter(inputs.shape, np.float32)
    for weight in weights:
        node = ops.matmul(node, ops.constant(weight), transpose_a=False, transpose_b=False)
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": hint}
    queue = ov.AsyncInferQueue(ov.Core().compile_model(ov.Model([node], [parameter]), "CPU", settings))

    def run() -> int:
        for _ in range(len(queue)):
            queue.start_async({0: inputs})
        queue.wait_all()
        return len(queue)

    return run


def _calls_a_second(run: Callable[[], int], seconds: float) -> float:
    run()
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds or not calls:
        calls += run()
    return calls / elapsed


if __name__ == "__main__":
    serve({"rate": rate, "operations": operations})
