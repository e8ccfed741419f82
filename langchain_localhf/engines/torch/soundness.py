"""Proves that a loaded model runs with the checkpoint's own weights, all of them, and with nothing else.

transformers only logs when weights are missing, left over or of another shape, and then runs with random ones. Here
each of these ends in an error, unless the weights in question are shown to change no vector at all.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import re
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from sentence_transformers.base.modules import Transformer
from transformers import PreTrainedModel
from transformers.utils import logging as transformers_logging

from langchain_localhf.engines.torch.accounting import (
    account,
    foreign_parts,
    runs_foreign_code,
    transformers_models,
    unreached,
)
from langchain_localhf.engines.torch.construction import check_computed
from langchain_localhf.engines.torch.vocabulary import check_vocabulary
from langchain_localhf.errors import CheckpointError, UninitializedWeightsError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from langchain_localhf.checkpoint.checkpoint import Checkpoint

_SHAKES = (1.0, 10.0)
# Computed from the configuration, not learnt; old checkpoints hold them all the same.
_COMPUTED = (
    "position_ids", "inv_freq", "embed_positions.weights",
    "attn.bias", "attn.masked_bias", "attn.causal_mask", "attention.bias", "attention.masked_bias",
)  # fmt: skip
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
    thread = threading.get_ident()
    with _loading, _quiet():
        original = PreTrainedModel.__dict__["from_pretrained"]

        @functools.wraps(original.__func__)
        def recording(cls: type[PreTrainedModel], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - passed through
            if threading.get_ident() != thread or kwargs.get("output_loading_info"):
                return original.__func__(cls, *args, **kwargs)
            # A shape that does not fit is reported with its name instead of raised without one, and refused below.
            kwargs |= {"output_loading_info": True, "ignore_mismatched_sizes": True}
            model, info = original.__func__(cls, *args, **kwargs)
            report.mismatched |= {name for name, *_ in info["mismatched_keys"]}
            report.unexpected |= set(info["unexpected_keys"])
            return model

        PreTrainedModel.from_pretrained = classmethod(recording)  # type: ignore[method-assign,assignment]
        try:
            yield report
        finally:
            PreTrainedModel.from_pretrained = original  # type: ignore[method-assign]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides what transformers prints while it loads: a progress bar, and the report that is judged here instead."""
    logger = logging.getLogger("transformers.modeling_utils")
    # Not the public switch: that one also turns the hub's own bars off, and on again whatever they were before.
    shown, transformers_logging._tqdm_active = transformers_logging._tqdm_active, False  # noqa: SLF001
    logger.addFilter(_is_no_report)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_report)
        transformers_logging._tqdm_active = shown  # noqa: SLF001


def _is_no_report(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


@dataclass(frozen=True)
class Proof:
    """What a model that was proved sound showed of itself.

    Attributes:
        unused_weights: Tensors that the checkpoint does not hold and that were shown to change no vector.
        probe_vectors: What the probe gave.
    """

    unused_weights: tuple[str, ...]
    probe_vectors: NDArray[np.float32]


def prove(
    model: nn.Module, report: LoadingReport, checkpoint: Checkpoint, probe: Callable[[], NDArray[np.float32]]
) -> Proof:
    """Proves a freshly loaded model sound.

    Args:
        model: The model, on its device.
        report: What `recorded_loading` collected.
        checkpoint: The files it was loaded from.
        probe: Embeds a few inputs with the model, in every way that it can embed one; or scores a few pairs.

    Raises:
        UninitializedWeightsError: Weights are missing, of another shape, or left over.
        IncompleteModelError: The tokenizer knows too few words for this model.
        CheckpointError: A weight or a vector is not a finite number, or the tokenizer knows too many words.
    """
    fresh = _require_own_weights(model, report, checkpoint)
    for part in model.modules():
        if isinstance(part, Transformer):
            check_vocabulary(cast("PreTrainedTokenizerBase", part.tokenizer), part.model, checkpoint)
    vectors = probe()
    if not np.isfinite(vectors).all():
        msg = f"{checkpoint.folder} gives vectors that are not finite numbers"
        raise CheckpointError(msg, hint="pull or copy the model again; if it is in half precision, load it in float32")
    if fresh and (unreached(model, fresh, probe) or _depends_on(probe, fresh, vectors)):
        raise _refusal(checkpoint, missing=fresh, mismatched=(), unexpected=())
    return Proof(tuple(sorted(fresh)), vectors)


def prove_language_model(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, report: LoadingReport, checkpoint: Checkpoint
) -> None:
    """Proves a freshly loaded language model sound: every one of its weights matters, so none may be fresh.

    Args:
        model: The model, on its device.
        tokenizer: Its tokenizer.
        report: What `recorded_loading` collected.
        checkpoint: The files it was loaded from.

    Raises:
        UninitializedWeightsError: Weights are missing, of another shape, or left over.
        IncompleteModelError: The tokenizer knows too few words for this model.
        CheckpointError: A weight is not a finite number, or the tokenizer knows too many words.
    """
    fresh = _require_own_weights(model, report, checkpoint)
    if missing := [name for name in fresh if not _is_computed(model, name)]:
        raise _refusal(checkpoint, missing=missing, mismatched=(), unexpected=())
    check_vocabulary(tokenizer, model, checkpoint)


def _is_computed(model: PreTrainedModel, name: str) -> bool:
    """Whether transformers' own class computes a tensor where no file holds it, such as Marian's table of sines."""
    if name not in dict(model.named_buffers()) and not name.endswith("embed_positions.weight"):
        return False
    declared = () if runs_foreign_code(model) else model._keys_to_ignore_on_load_missing or ()  # noqa: SLF001 - nothing public says so
    return any(re.search(pattern, name) for pattern in declared)


def _require_own_weights(model: nn.Module, report: LoadingReport, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Checks that a model has the checkpoint's weights, unaltered, and gives those that the checkpoint does not hold.

    Raises:
        UninitializedWeightsError: Weights are of another shape, or left over.
        CheckpointError: A weight is not a finite number.
    """
    inner_models = list(transformers_models(model))
    fresh = {name: tensor for prefix, inner in inner_models for name, tensor in _fresh(prefix, inner).items()}
    left_over = {name for _, inner in inner_models for name in _left_over(inner, report.unexpected)}
    mismatched = set(report.mismatched)
    if any(True for _ in foreign_parts(model)):
        books = account(model, checkpoint, computed=check_computed(model, name=str(checkpoint.folder)))
        fresh |= books.fresh
        mismatched.update(books.altered)
        left_over.update(
            name for _, inner in inner_models if runs_foreign_code(inner) for name in _left_over(inner, books.unused)
        )
    if mismatched or left_over:
        raise _refusal(checkpoint, missing=fresh, mismatched=mismatched, unexpected=left_over)
    _check_finite_weights(model, checkpoint)
    return fresh


def _fresh(prefix: str, model: PreTrainedModel) -> dict[str, Tensor]:
    """The tensors that did not come from the checkpoint; none of a model of foreign code, where marks say nothing.

    transformers 5 marks every tensor that it read from a file; the mark survives a change of device or type.
    """
    if runs_foreign_code(model):
        return {}
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
    base = getattr(model, model.base_model_prefix, model)  # the part below the head
    parts = {name for module in (model, base) for name, _ in module.named_children()}
    return [
        name
        for name in unexpected
        if name.removeprefix(prefix).partition(".")[0] in parts and not name.endswith(_COMPUTED)
    ]


def _check_finite_weights(model: nn.Module, checkpoint: Checkpoint) -> None:
    for name, tensor in model.state_dict(keep_vars=True).items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            msg = f"{name} in {checkpoint.folder} holds values that are not finite numbers"
            raise CheckpointError(msg, hint="pull or copy the model again")


def _is_finite(tensor: Tensor) -> bool:
    # A sum is an order of magnitude faster than looking at each value, and NaN or infinity cannot hide in it; only
    # where the sum itself is not finite is it worth looking closer.
    return bool(torch.isfinite(tensor.detach().sum(dtype=torch.float32)) or torch.isfinite(tensor.float()).all())


def _depends_on(
    run: Callable[[], NDArray[np.float32]], tensors: Mapping[str, Tensor], before: NDArray[np.float32]
) -> bool:
    """Whether changing `tensors` changes what `run` gives, by changing them; their values are restored.

    Neither gradients nor NaN can tell: a forward pass may run without gradients, and attention on a CPU swallows NaN.
    """
    kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    try:
        for seed, scale in enumerate(_SHAKES):
            generator = torch.Generator().manual_seed(seed)
            for name, tensor in tensors.items():
                noise = torch.randn(tensor.shape, generator=generator) * scale + kept[name].cpu().float()
                tensor.data.copy_(noise.to(tensor.dtype))
            if not np.array_equal(before, run(), equal_nan=True):
                return True
    except (IndexError, RuntimeError):  # a shaken table of positions that is used leads nowhere
        return True
    finally:
        for name, value in kept.items():
            tensors[name].data.copy_(value)
    return False


def _refusal(
    checkpoint: Checkpoint, *, missing: Collection[str], mismatched: Collection[str], unexpected: Collection[str]
) -> UninitializedWeightsError:
    missing, mismatched, unexpected = sorted(missing), sorted(mismatched), sorted(unexpected)
    parts = [
        f"\n  {len(names)} {what}: {_some(names)}"
        for what, names in (
            ("missing in the checkpoint, so they would be random", missing),
            ("of another shape than the model's, or altered after they were read", mismatched),
            ("in the checkpoint that the model has no place for", unexpected),
        )
        if names
    ]
    msg = f"{checkpoint.folder} would not run with its own weights:{''.join(parts)}"
    hint = "the files belong to different models, or config.json does; pull or copy the model again"
    return UninitializedWeightsError(msg, missing=missing, mismatched=mismatched, unexpected=unexpected, hint=hint)


def _some(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
