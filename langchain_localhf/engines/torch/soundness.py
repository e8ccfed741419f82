"""Proves that a loaded model runs with the checkpoint's own weights, all of them, and with nothing else.

transformers only logs when weights are missing, left over or of another shape, and then runs with random ones. Here
each of these ends in an error, unless the weights in question are shown to change no vector at all.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import PreTrainedModel

from langchain_localhf.engines.base import PROBE_TEXTS
from langchain_localhf.errors import CheckpointError, IncompleteModelError, UninitializedWeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray
    from sentence_transformers import SentenceTransformer
    from torch import Tensor, nn

    from langchain_localhf.checkpoint.checkpoint import Checkpoint

_SHAKES = (1.0, 10.0)
_MIN_TOKENIZER_SHARE = 0.5
_LISTED = 6

_loading = threading.Lock()


@dataclass
class LoadingReport:
    """What transformers found out while it loaded; the names are those of the model's own tensors."""

    mismatched: set[str] = field(default_factory=set)
    unexpected: set[str] = field(default_factory=set)


@contextlib.contextmanager
def recorded_loading() -> Iterator[LoadingReport]:
    """Collects the loading report of every transformers model that is loaded in the context, in this thread.

    The report exists only as a return value of `from_pretrained(output_loading_info=True)`, several layers below
    `SentenceTransformer(...)`; so that public method is wrapped for as long as the model loads.
    """
    report = LoadingReport()
    original = PreTrainedModel.__dict__["from_pretrained"]
    thread = threading.get_ident()

    @functools.wraps(original.__func__)
    def recording(cls: type[PreTrainedModel], *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread or kwargs.get("output_loading_info"):
            return original.__func__(cls, *args, **kwargs)
        # A shape that does not fit is reported with its name instead of raised without one, and refused below.
        kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
        model, info = original.__func__(cls, *args, **kwargs)
        report.mismatched |= {name for name, *_ in info["mismatched_keys"]}
        report.unexpected |= set(info["unexpected_keys"])
        return model

    with _loading:
        PreTrainedModel.from_pretrained = classmethod(recording)  # type: ignore[method-assign]
        try:
            yield report
        finally:
            PreTrainedModel.from_pretrained = original  # type: ignore[method-assign]


def prove(
    model: SentenceTransformer, report: LoadingReport, checkpoint: Checkpoint, probe: Callable[[], NDArray[Any]]
) -> tuple[str, ...]:
    """Proves a freshly loaded model sound.

    Args:
        model: The model, on its device.
        report: What `recorded_loading` collected.
        checkpoint: The files it was loaded from.
        probe: Embeds a few texts with the model, in every way that it can embed a text.

    Returns:
        The names of tensors that the checkpoint does not hold and that were shown to change no vector.

    Raises:
        UninitializedWeightsError: Weights are missing, of another shape, or left over.
        IncompleteModelError: The tokenizer knows too few words for this model.
        CheckpointError: A weight or a vector is not a finite number, or the tokenizer knows too many words.
    """
    transformers_models = list(_transformers_models(model))
    left_over = sorted(name for _, inner in transformers_models for name in _left_over(inner, report.unexpected))
    fresh = {name: tensor for prefix, inner in transformers_models for name, tensor in _fresh(prefix, inner).items()}
    if report.mismatched or left_over:
        raise _refusal(checkpoint, missing=sorted(fresh), mismatched=sorted(report.mismatched), unexpected=left_over)
    _check_finite_weights(model, checkpoint)
    _check_tokenizer(model, checkpoint)
    if not np.isfinite(probe()).all():
        msg = f"{checkpoint.folder} gives vectors that are not finite numbers"
        raise CheckpointError(msg, hint="pull or copy the model again; if it is in half precision, load it in float32")
    if fresh and _depends_on(probe, fresh):
        raise _refusal(checkpoint, missing=sorted(fresh), mismatched=[], unexpected=[])
    return tuple(sorted(fresh))


def _transformers_models(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, PreTrainedModel]]:
    """The outermost transformers models inside a module, each with its name."""
    if isinstance(module, PreTrainedModel):
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from _transformers_models(child, f"{prefix}{name}.")


def _fresh(prefix: str, model: PreTrainedModel) -> dict[str, Tensor]:
    """The tensors that did not come from the checkpoint.

    transformers 5 marks every tensor that it read from a file; the mark survives a change of device or type.
    """
    return {
        prefix + name: tensor
        for name, tensor in model.state_dict(keep_vars=True).items()
        if isinstance(tensor, torch.Tensor) and not getattr(tensor, "_is_hf_initialized", False)
    }


def _left_over(model: PreTrainedModel, unexpected: set[str]) -> list[str]:
    """Tensors of the checkpoint that belong into a part which this model has, but for which it has no place there.

    A head that the model lacks altogether, as `cls.predictions` of a checkpoint trained with one, is no such case.
    """
    prefix = f"{model.base_model_prefix}."
    parts = {name for name, _ in model.named_children()}
    return [name for name in unexpected if name.removeprefix(prefix).partition(".")[0] in parts]


def _check_finite_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not tensor.is_floating_point():
            continue
        # A sum is an order of magnitude faster than looking at each value, and NaN or infinity cannot hide in it;
        # only where the sum itself is not finite is it worth looking closer.
        if not torch.isfinite(tensor.detach().sum(dtype=torch.float32)) and not torch.isfinite(tensor).all():
            msg = f"{name} in {checkpoint.folder} holds values that are not finite numbers"
            raise CheckpointError(msg, hint="pull or copy the model again")


def _check_tokenizer(model: SentenceTransformer, checkpoint: Checkpoint) -> None:
    inner = model.transformers_model
    tokenizer = model.tokenizer
    if inner is None or not hasattr(tokenizer, "all_special_ids"):
        return
    try:
        rows = inner.get_input_embeddings().weight.shape[0]
    except (NotImplementedError, AttributeError):  # some model classes, such as vision towers, have none
        return
    words = len(tokenizer)
    if words > rows:
        msg = f"the tokenizer in {checkpoint.folder} knows {words} tokens, but the model has weights for {rows}"
        raise CheckpointError(msg, hint="the tokenizer belongs to another model; pull or copy the model again")
    special = set(tokenizer.all_special_ids)
    blind = all(set(tokenizer(text)["input_ids"]) <= special for text in PROBE_TEXTS)
    if words < rows * _MIN_TOKENIZER_SHARE or blind:
        msg = f"the tokenizer in {checkpoint.folder} knows {words} tokens of {rows}; its files are incomplete"
        raise IncompleteModelError(msg, missing=("tokenizer.json",), hint="pull or copy the model again")


def _depends_on(run: Callable[[], NDArray[Any]], tensors: Mapping[str, Tensor]) -> bool:
    """Whether changing `tensors` changes what `run` gives, by changing them; their values are restored.

    Neither gradients nor NaN can tell: a forward pass may run without gradients, and attention on a CPU swallows NaN.
    """
    before = run()
    kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    try:
        for seed, scale in enumerate(_SHAKES):
            generator = torch.Generator().manual_seed(seed)
            for name, tensor in tensors.items():
                noise = torch.randn(tensor.shape, generator=generator) * scale + kept[name].cpu().float()
                tensor.data.copy_(noise.to(tensor.dtype))
            if not np.array_equal(before, run(), equal_nan=True):
                return True
        return False
    finally:
        for name, value in kept.items():
            tensors[name].data.copy_(value)


def _refusal(
    checkpoint: Checkpoint, *, missing: list[str], mismatched: list[str], unexpected: list[str]
) -> UninitializedWeightsError:
    parts = [
        f"\n  {len(names)} {what}: {_some(names)}"
        for what, names in (
            ("missing in the checkpoint, so they would be random", missing),
            ("of another shape than the model's", mismatched),
            ("in the checkpoint that the model has no place for", unexpected),
        )
        if names
    ]
    msg = f"{checkpoint.folder} would not run with its own weights:{''.join(parts)}"
    hint = "the files belong to different models, or config.json does; pull or copy the model again"
    if checkpoint.code_references:
        code = ", ".join(sorted(set(checkpoint.code_references.values())))
        hint = (
            f"config.json says that this model needs its own code ({code}); read it, and if you trust it, "
            'pass model_kwargs={"trust_remote_code": True}'
        )
    return UninitializedWeightsError(msg, missing=missing, mismatched=mismatched, unexpected=unexpected, hint=hint)


def _some(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
