"""A whole model of sentence-transformers as modules that can be traced: transformer, and whatever comes behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers.base.modules import Router
from sentence_transformers.cross_encoder.modules import LogitScore
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from langchain_localhf.engines.traceable import Traceable, TraceableImages
from langchain_localhf.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentence_transformers import CrossEncoder, SentenceTransformer

    from langchain_localhf.checkpoint.images import ImagePreparation

# Two texts of different lengths: where nothing is padded, a trace would leave the mask out.
_EXAMPLES = ["hello world", "a longer text, of so many words that the other one has to be padded"]
_PAIRED_EXAMPLES = [("hello world", "a word"), ("a longer text", _EXAMPLES[1])]
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_USE_TORCH = 'use it with backend="torch"'


class _Whole(torch.nn.Module):
    def __init__(self, model: SentenceTransformer, inputs: tuple[str, ...], **settings: str) -> None:
        super().__init__()
        self.model, self._inputs, self._settings = model, inputs, settings

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        features: dict[str, Any] = dict(zip(self._inputs, tensors, strict=True))
        result: torch.Tensor = self.model.forward(features, **self._settings)["sentence_embedding"]
        return result


class _Images(torch.nn.Module):
    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features: dict[str, Any] = {"pixel_values": pixels, "modality": "image"}
        result: torch.Tensor = self.model.forward(features)["sentence_embedding"]
        return result


class _Scores(torch.nn.Module):
    def __init__(self, model: CrossEncoder, inputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self._inputs = model, inputs

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        features: dict[str, Any] = dict(zip(self._inputs, tensors, strict=True))
        logits = self.model.forward(features)["scores"].float()
        activation = self.model.activation_fn
        scores: torch.Tensor = logits if activation is None else activation(logits)
        return scores


def traceable(
    model: SentenceTransformer,
    *,
    max_tokens: int | None,
    eager_attention: bool = False,
    image_preparation: ImagePreparation | None = None,
    padded_to: int | None = None,
) -> Traceable:
    """The model, ready to be traced.

    Args:
        model: The model.
        max_tokens: How many tokens of a text it reads; None if there is no limit.
        eager_attention: Whether attention is to be written out in plain products.
        image_preparation: How images are prepared for it; None for a model that reads texts only.
        padded_to: How many tokens every text is filled up to; None for as many as the longest of its batch has.

    Raises:
        UnsupportedModelError: It reads texts or images in a way that a graph cannot; the message says which.
    """
    if eager_attention:
        _write_out_attention(model)
    tokenizer = _fast_tokenizer(model.tokenizer)
    if any(isinstance(module, Pooling) and not module.include_prompt for module in model.modules()):
        msg = "the model leaves its prompt out of the mean, which a compiled graph cannot"
        raise UnsupportedModelError(msg, hint=_USE_TORCH)
    _only_read(model)
    tensors = _known_inputs(model.preprocess(_EXAMPLES))
    inputs = tuple(tensors)
    modules: dict[str, Any] = {"model": _Whole(model.eval(), inputs)}
    if any(isinstance(module, Router) for module in model.children()):
        modules = {"model": _Whole(model, inputs, task="document"), "query": _Whole(model, inputs, task="query")}
    images = None
    if image_preparation is not None:
        images = TraceableImages(_Images(model), torch.rand(2, 3, *image_preparation.shape), image_preparation)
    return replace(_traceable(modules, tensors, tokenizer, max_tokens), padded_to=padded_to, images=images)


def traceable_scorer(model: CrossEncoder, *, max_tokens: int | None, eager_attention: bool = False) -> Traceable:
    """The cross-encoder with its activation function, ready to be traced; it gives scores. Shape: `(pairs, labels)`.

    Raises:
        UnsupportedModelError: It reads pairs in a way that a graph cannot; the message says which.
    """
    if eager_attention:
        _write_out_attention(model)
    tokenizer = _fast_tokenizer(model.tokenizer)
    if any(isinstance(module, LogitScore) for module in model.modules()):
        msg = "the model reads its scores off a language model's answer, which a compiled graph cannot"
        raise UnsupportedModelError(msg, hint=_USE_TORCH)
    _only_read(model)
    tensors = _known_inputs(model.preprocess(_PAIRED_EXAMPLES))
    return _traceable({"model": _Scores(model.eval(), tuple(tensors))}, tensors, tokenizer, max_tokens)


def _write_out_attention(model: torch.nn.Module) -> None:
    """Attention as plain products, which is the same up to rounding.

    A token of the padding whose window holds nothing but padding gets zeros of torch's own function, and no number at
    all of others.
    """
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.set_attn_implementation("eager")


def _only_read(model: torch.nn.Module) -> None:
    """A text is read once, and nothing is learned: old versions of transformers would trace a cache for more of it.

    Tracing looks at every attribute, and transformers warns of a model without a loss when that one is looked at.
    """
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            module.loss_function = None
            if getattr(module.config, "use_cache", False):
                module.config.use_cache = False


def _fast_tokenizer(tokenizer: object) -> PreTrainedTokenizerBase:
    """The tokenizer, which the `tokenizers` library can run as well."""
    if isinstance(tokenizer, PreTrainedTokenizerBase) and (tokenizer.is_fast or _saved(tokenizer).is_file()):
        return tokenizer
    msg = f"a model with {type(tokenizer).__name__} cannot be compiled: it needs a fast tokenizer (tokenizer.json)"
    raise UnsupportedModelError(msg, hint=_USE_TORCH)


def _saved(tokenizer: PreTrainedTokenizerBase) -> Path:
    """Where a tokenizer that runs in Python, as SigLIP's, may have been saved in the faster form.

    That it cuts texts into the same tokens shows when the graph is compared with torch.
    """
    return Path(tokenizer.name_or_path) / "tokenizer.json"


def _known_inputs(features: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    tensors = {name: value for name, value in features.items() if isinstance(value, torch.Tensor)}
    if unknown := tensors.keys() - {*_INPUTS}:
        msg = f"the model takes inputs that a compiled graph does not know: {', '.join(sorted(unknown))}"
        raise UnsupportedModelError(msg, hint=_USE_TORCH)
    return {name: tensors[name] for name in _INPUTS if name in tensors}


def _traceable(
    modules: Mapping[str, Any],
    tensors: Mapping[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerBase,
    max_tokens: int | None,
) -> Traceable:
    return Traceable(
        modules=modules,
        inputs=tuple(tensors),
        examples=tuple(tensors.values()),
        tokenizer_json=_tokenizer_json(tokenizer, max_tokens),
        max_tokens=max_tokens,
        padding_side="left" if tokenizer.padding_side == "left" else "right",
        pad_token_id=tokenizer.pad_token_id or 0,
        pad_token_type_id=tokenizer.pad_token_type_id,
    )


def _tokenizer_json(tokenizer: PreTrainedTokenizerBase, max_tokens: int | None) -> str:
    saved = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else _saved(tokenizer).read_text(encoding="utf-8")
    copy = Tokenizer.from_str(saved)
    copy.no_padding()
    copy.no_truncation()
    if max_tokens is not None:
        copy.enable_truncation(max_tokens, direction=tokenizer.truncation_side)
    return copy.to_str()
