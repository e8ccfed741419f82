"""What the models of `foreign_checkpoints` compute, in plain torch and from the weights alone."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Weights = dict[str, Tensor]
    # Token numbers of one text, without padding, to the vectors of its tokens.
    Forward = Callable[[Weights, Tensor], Tensor]

HEADS = 4


def _linear(weights: Weights, name: str, states: Tensor) -> Tensor:
    return functional.linear(states, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def _norm(weights: Weights, name: str, states: Tensor, eps: float = 1e-12) -> Tensor:
    return functional.layer_norm(states, states.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | float) -> Tensor:
    """Attention over `(positions, size)`, head by head."""
    outputs = []
    for head, (q, k, v) in enumerate(zip(*(states.chunk(HEADS, -1) for states in (query, key, value)), strict=True)):
        scores = q @ k.T / math.sqrt(q.shape[-1]) + (bias[head] if isinstance(bias, torch.Tensor) else bias)
        outputs.append(scores.softmax(-1) @ v)
    return torch.cat(outputs, -1)


def _distance(length: int) -> Tensor:
    return torch.tensor([[float(abs(i - j)) for j in range(length)] for i in range(length)])


def alibi(weights: Weights, tokens: Tensor) -> Tensor:
    """The style of jina, with or without norms on queries and keys."""
    bias = torch.stack([-(2.0 ** (-8 * (head + 1) / HEADS)) * _distance(len(tokens)) for head in range(HEADS)])
    hidden = (
        weights["embeddings.word_embeddings.weight"][tokens] + weights["embeddings.token_type_embeddings.weight"][0]
    )
    hidden = _norm(weights, "embeddings.LayerNorm", hidden)
    for layer in range(2):
        part = f"encoder.layer.{layer}.attention"
        query, key, value = (_linear(weights, f"{part}.{name}", hidden) for name in ("query", "key", "value"))
        if f"{part}.layer_norm_q.weight" in weights:
            query = _norm(weights, f"{part}.layer_norm_q", query)
            key = _norm(weights, f"{part}.layer_norm_k", key)
        attended = _linear(weights, f"{part}.dense", _attend(query, key, value, bias))
        hidden = _norm(weights, f"{part}.LayerNorm", attended + hidden)
        part = f"encoder.layer.{layer}.mlp"
        gate, plain = _linear(weights, f"{part}.gated_layers", hidden).chunk(2, -1)
        hidden = _norm(
            weights, f"{part}.layernorm", _linear(weights, f"{part}.wo", functional.gelu(gate) * plain) + hidden
        )
    return hidden


def growing(weights: Weights, tokens: Tensor) -> Tensor:
    """MosaicBERT's style; the output of the second layer counts twice."""
    bias = torch.stack([-(2.0 ** -(head + 1)) * _distance(len(tokens)) for head in range(HEADS)])
    hidden = weights["embeddings.weight"][tokens]
    for layer in range(2):
        part = f"encoder.layer.{layer}"
        query, key, value = _linear(weights, f"{part}.Wqkv", hidden).chunk(3, -1)
        attended = _linear(weights, f"{part}.dense", _attend(query, key, value, bias))
        hidden = _norm(weights, f"{part}.norm", attended * (1 + layer) + hidden)
    return hidden


def rotary(weights: Weights, tokens: Tensor) -> Tensor:
    """The style of nomic: complex numbers instead of sines and cosines."""
    half = weights["embeddings.weight"].shape[1] // HEADS // 2
    angles = torch.tensor([[p * 1000.0 ** (-i / half) for i in range(half)] for p in range(len(tokens))])
    turn = torch.polar(torch.ones_like(angles), angles)

    def turned(states: Tensor) -> Tensor:
        heads = []
        for part in states.chunk(HEADS, -1):
            pairs = torch.complex(part[:, :half].contiguous(), part[:, half:].contiguous()) * turn
            heads.append(torch.cat((pairs.real, pairs.imag), -1))
        return torch.cat(heads, -1)

    hidden = weights["embeddings.weight"][tokens]
    for layer in range(2):
        query, key, value = _linear(weights, f"layers.{layer}.Wqkv", hidden).chunk(3, -1)
        attended = _linear(weights, f"layers.{layer}.out_proj", _attend(turned(query), turned(key), value, 0.0))
        hidden = _norm(weights, f"layers.{layer}.norm", attended + hidden, eps=1e-5)
    return hidden


def experts(weights: Weights, tokens: Tensor) -> Tensor:
    """One expert a token."""
    outputs = []
    for position, token in enumerate(tokens.tolist()):
        hidden = weights["embeddings.weight"][token] * 0.9**position
        expert = int((weights["router.weight"] @ hidden).argmax())
        outputs.append(_linear(weights, f"experts.{expert}", hidden))
    return torch.stack(outputs)


def chosen_experts(weights: Weights, tokens: Tensor) -> set[int]:
    """The experts that a text reaches."""
    return {
        int((weights["router.weight"] @ (weights["embeddings.weight"][token] * 0.9**position)).argmax())
        for position, token in enumerate(tokens.tolist())
    }


def mean(states: Tensor, weights: Weights) -> Tensor:
    """Mean pooling."""
    return states.mean(0)


def weighted(states: Tensor, weights: Weights) -> Tensor:
    """The pooling of `foreign_others.POOLING`."""
    return _linear(weights, "score", states).squeeze(-1).softmax(-1) @ states
