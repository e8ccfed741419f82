"""Static int8: weights and activations as whole numbers, in ranges that were learned once from texts.

The ranges are fixed, so that a text has the same vector in every batch. Quantization that looks at each batch anew
does not have that.
"""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import nncf

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import openvino as ov


def quantized(model: ov.Model, inputs: Sequence[Mapping[str, Any]]) -> ov.Model:
    """A graph in int8.

    Args:
        model: The graph.
        inputs: What to learn the ranges from: batches as the graph takes them.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # where results of commands go, nncf draws progress bars
        return nncf.quantize(
            model, nncf.Dataset(inputs), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(inputs)
        )
