"""The likeliest tokens of an exported language model, in full precision: what its export is compared by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from langchain_localhf.engines.openvino import runtime

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

# Plugins round by default where the machine can: weights and products to bf16, the cache and activations to 8 bits.
_EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
    "PERFORMANCE_HINT": "LATENCY",
}


def greedy_tokens(folder: Path, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """Continues each prompt by its `count` likeliest tokens; a token that ends a text is one like any other.

    Args:
        folder: A language model as `optimum-cli export openvino` writes it, with its cache inside (stateful).
        prompts: Token ids, at least one in each.
        count: How many tokens to add to each.
    """
    compiled = runtime.core().compile_model(folder / "openvino_model.xml", "CPU", _EXACT)
    names = {name for port in compiled.inputs for name in port.names}
    request = compiled.create_infer_request()
    continued = []
    for prompt in prompts:
        request.reset_state()
        tokens, read = list(prompt), 0
        while len(tokens) < len(prompt) + count:
            given = _inputs(tokens, read)
            request.infer({name: given[name] for name in names})
            read = len(tokens)
            tokens.append(int(request.get_tensor("logits").data[0, -1].argmax()))
        continued.append(tokens[len(prompt) :])
    return continued


def _inputs(tokens: Sequence[int], read: int) -> dict[str, NDArray[np.integer]]:
    """What the graph takes to read on after the first `read` tokens, for one row."""
    return {
        "input_ids": np.array([tokens[read:]], dtype=np.int64),
        "attention_mask": np.ones((1, len(tokens)), dtype=np.int64),
        "position_ids": np.arange(read, len(tokens), dtype=np.int64)[None],
        "beam_idx": np.zeros(1, dtype=np.int32),
    }
