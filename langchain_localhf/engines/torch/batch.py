"""A batch while it is generated: its rows, and what `generate` needs to go on with them.

Rows that are over leave it, and batches of unlike lengths become one after their first token, so that short prompts
are not computed as long as the longest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor
    from transformers.utils.generic import ModelOutput

    from langchain_localhf.engines.torch.decoding import Row

# Reading the weights once more takes about as long as computing so many tokens, on a CPU.
_TOKENS_WORTH_A_PASS = 128


@dataclass(frozen=True)
class Batch:
    """Rows, and the tensors that `generate` takes for them.

    Attributes:
        rows: The rows.
        inputs: The tokens and their mask, padded on the left; shape of each: `(rows, length)`. `past_key_values` where
            something is computed already.
    """

    rows: list[Row]
    inputs: dict[str, Any]

    def after(self, written: ModelOutput) -> Batch:
        """The rows that are not over, as they stand after `generate` has written some tokens."""
        kept = [index for index, row in enumerate(self.rows) if not row.generation.is_over]
        if not kept:
            return Batch([], {})
        tokens, mask = written["sequences"][kept], self.inputs["attention_mask"][kept]
        new = torch.ones((len(kept), tokens.shape[1] - mask.shape[1]), dtype=mask.dtype, device=mask.device)
        inputs = {"input_ids": tokens, "attention_mask": torch.cat([mask, new], dim=1)}
        cache = written.get("past_key_values")
        if isinstance(cache, DynamicCache):  # else what was computed is computed again
            cache.batch_select_indices(torch.tensor(kept, device=tokens.device))
            inputs["past_key_values"] = cache
        return Batch([self.rows[index] for index in kept], inputs)


def merged(batches: Sequence[Batch]) -> Batch:
    """Several batches as one, padded on the left to one length; with what is computed, if all of it can be padded."""
    length = max(batch.inputs["input_ids"].shape[1] for batch in batches)
    inputs: dict[str, Any] = {
        name: torch.cat([_longer(batch.inputs[name], length, dim=1) for batch in batches])
        for name in ("input_ids", "attention_mask")
    }
    caches = [batch.inputs.get("past_key_values") for batch in batches]
    if all(map(can_be_padded, caches)):
        inputs["past_key_values"] = _merged_caches([cache for cache in caches if cache is not None])
    return Batch([row for batch in batches for row in batch.rows], inputs)


def can_be_padded(cache: DynamicCache | None) -> bool:
    """Whether a cache holds each token in its place, in all of its layers."""
    return isinstance(cache, DynamicCache) and all(type(layer) is DynamicLayer for layer in cache.layers)


def of_like_lengths(lengths: Sequence[int]) -> list[list[int]]:
    """The places of prompts, in groups whose first tokens are best computed together.

    Args:
        lengths: How many tokens each prompt has, in ascending order.
    """
    groups: list[list[int]] = []
    for place in reversed(range(len(lengths))):
        # With the longer ones, this prompt and all shorter ones are padded by so much.
        padding = (lengths[groups[-1][0]] - lengths[place]) * (place + 1) if groups else 0
        if not groups or padding > _TOKENS_WORTH_A_PASS:
            groups.append([])
        groups[-1].append(place)
    return groups[::-1]  # the short ones first, since they are done first


def _merged_caches(caches: Sequence[DynamicCache]) -> DynamicCache:
    whole, length = DynamicCache(), max(cache.get_seq_length() for cache in caches)
    for index in range(len(caches[0].layers)):
        layers: list[Any] = [cache.layers[index] for cache in caches]
        whole.update(
            torch.cat([_longer(layer.keys, length, dim=2) for layer in layers]),
            torch.cat([_longer(layer.values, length, dim=2) for layer in layers]),
            index,
        )
    return whole


def _longer(tensor: Tensor, length: int, *, dim: int) -> Tensor:
    """A tensor with zeros before what it holds, up to a length; the mask says that they mean nothing."""
    missing = length - tensor.shape[dim]
    return pad(tensor, [0, 0] * (tensor.ndim - dim - 1) + [missing, 0])
