"""Batches of prompts of unlike lengths: begun apart, going on together."""

from __future__ import annotations

import itertools

import pytest
import torch
from transformers import DynamicCache, StaticCache
from transformers.models.llama import LlamaConfig

from langchain_localhf.engines.torch.batch import Batch, can_be_padded, merged, of_like_lengths


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([5], [[0]]),
        ([5, 5, 6, 7], [[3, 2, 1, 0]]),
        ([5, 300], [[0], [1]]),
        ([7] * 4 + [14] * 7 + [32] * 8 + [62] * 7 + [152] * 6, [11, 8, 7, 6]),
    ],
)
def test_prompts_of_like_lengths_begin_together(lengths: list[int], expected: list[list[int]] | list[int]) -> None:
    """Where little is padded, one pass for all is cheaper; the short ones come first."""
    groups = of_like_lengths(lengths)
    assert groups == expected or [len(group) for group in groups] == expected
    assert sorted(itertools.chain.from_iterable(groups)) == list(range(len(lengths)))


def cache(rows: int, length: int) -> DynamicCache:
    """A cache with two layers."""
    made = DynamicCache()
    for layer in range(2):
        keys = torch.full((rows, 1, length, 2), float(10 * rows + layer))
        made.update(keys, -keys, layer)
    return made


def batch(rows: int, length: int, **inputs: object) -> Batch:
    """A batch with one token more than is computed."""
    tokens = torch.full((rows, length + 1), rows)
    return Batch([], {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **inputs})


def test_batches_come_together_padded_on_the_left() -> None:
    """Tokens, mask and cache alike, so that each token keeps its place from the end."""
    together = merged([batch(1, 2, past_key_values=cache(1, 2)), batch(2, 4, past_key_values=cache(2, 4))])
    assert together.inputs["input_ids"].tolist() == [[0, 0, 1, 1, 1], [2] * 5, [2] * 5]
    assert together.inputs["attention_mask"].tolist() == [[0, 0, 1, 1, 1], [1] * 5, [1] * 5]
    whole = together.inputs["past_key_values"]
    assert whole.get_seq_length() == 4
    for layer in range(2):
        own = 10.0 + layer
        assert whole.layers[layer].keys[0, 0, :, 0].tolist() == [0, 0, own, own]
        assert whole.layers[layer].values[1:, 0, :, 0].tolist() == [[-20.0 - layer] * 4] * 2


def test_a_cache_of_another_form_is_filled_again() -> None:
    """A window of the last tokens, or one that is allocated in advance, has no place for padding."""
    together = merged([batch(1, 2, past_key_values=cache(1, 2)), batch(2, 4)])
    assert "past_key_values" not in together.inputs
    assert not can_be_padded(None)
    assert not can_be_padded(StaticCache(config=LlamaConfig(num_hidden_layers=1), max_cache_len=4))
    windows = DynamicCache(config=LlamaConfig(num_hidden_layers=1, sliding_window=4, layer_types=["sliding_attention"]))
    assert not can_be_padded(windows)
