"""What code that was written for transformers 4 expects and transformers 5 no longer has.

It is given to code that comes with a model, and to nothing else: the modules of that code get an `__import__` of their
own, and their classes get the methods. transformers itself, and everything else that uses it, stays as it is. The
alternative, to rewrite imports in the source, would run other bytes than those that were verified, and would miss what
a function imports when it is called.

| name | ours | why |
|---|---|---|
| `pytorch_utils.find_pruneable_heads_and_indices` | as it was | every model that was made from BERT imports it |
| `modeling_utils.find_pruneable_heads_and_indices`, `modeling_utils.prune_linear_layer` | the same, and what `pytorch_utils` has | their older place |
| `onnx`: `OnnxConfig`, `OnnxConfigWithPast`, `OnnxSeq2SeqConfigWithPast` | empty classes | configurations derive a class from them that only an exporter uses |
| `utils.is_flax_available`, `utils.is_tf_available`, `utils.is_torch_fx_available`, `utils.is_safetensors_available` | False, False, False, True | asked before optional imports |
| `PreTrainedModel.get_head_mask`, `.invert_attention_mask`, `.get_extended_attention_mask` | as they were, for encoders and decoders | called in `forward` |
| `PreTrainedModel.all_tied_weights_keys` | empty | set by `post_init`, which old classes do not call |
| `config.is_decoder`, `.add_cross_attention`, ... | the defaults of transformers 4 | every configuration had them |
"""  # noqa: E501 - a table has one row a line

from __future__ import annotations

import builtins
import types
from typing import TYPE_CHECKING, Any

import torch
from transformers import pytorch_utils

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from transformers import PreTrainedModel


def find_pruneable_heads_and_indices(
    heads: list[int], n_heads: int, head_size: int, already_pruned_heads: set[int]
) -> tuple[set[int], Tensor]:
    """The heads that are still there to be pruned, and the indices of the rows that remain without them."""
    remaining = set(heads) - already_pruned_heads
    mask = torch.ones(n_heads, head_size)
    for head in remaining:
        mask[head - sum(1 for pruned in already_pruned_heads if pruned < head)] = 0
    indices = torch.arange(mask.numel())[mask.view(-1).eq(1)].long()
    return remaining, indices


def get_head_mask(
    self: PreTrainedModel,
    head_mask: Tensor | None,
    num_hidden_layers: int,
    is_attention_chunked: bool = False,  # noqa: FBT001, FBT002 - the signature of transformers 4
) -> Tensor | list[None]:
    """A mask of heads for every layer. Shape: `(layers, batch or 1, heads, 1, 1)`, and one more 1 if chunked."""
    if head_mask is None:
        return [None] * num_hidden_layers
    if head_mask.dim() == 1:
        head_mask = head_mask[None, None, :, None, None].expand(num_hidden_layers, -1, -1, -1, -1)
    else:
        head_mask = head_mask[:, None, :, None, None]
    head_mask = head_mask.to(self.dtype)
    return head_mask.unsqueeze(-1) if is_attention_chunked else head_mask


def _per_head(mask: Tensor) -> Tensor:
    """A mask with the dimensions of attention scores, from one for each text or one for each position of each text."""
    has_positions = mask.dim() == 3  # noqa: PLR2004 - text, from position, to position
    return mask[:, None] if has_positions else mask[:, None, None, :]


def invert_attention_mask(self: PreTrainedModel, encoder_attention_mask: Tensor) -> Tensor:
    """Turns a mask of ones and zeros into one that is added to attention scores."""
    return (1.0 - _per_head(encoder_attention_mask).to(self.dtype)) * torch.finfo(self.dtype).min


def get_extended_attention_mask(
    self: PreTrainedModel,
    attention_mask: Tensor,
    input_shape: Sequence[int],
    device: object = None,  # noqa: ARG001 - the signature of transformers 4
    dtype: torch.dtype | None = None,
) -> Tensor:
    """A mask that is added to attention scores. Shape: `(batch, 1, 1 or positions, positions)`."""
    dtype = dtype or self.dtype
    mask = _per_head(attention_mask)
    if mask.shape[2] == 1 and getattr(self.config, "is_decoder", False):
        length, seen = input_shape[-1], attention_mask.shape[1]
        mask = torch.ones(length, seen, device=mask.device).tril(seen - length)[None, None] * mask
    return (1.0 - mask.to(dtype)) * torch.finfo(dtype).min


METHODS: dict[str, object] = {
    "all_tied_weights_keys": {},
    "get_extended_attention_mask": get_extended_attention_mask,
    "get_head_mask": get_head_mask,
    "invert_attention_mask": invert_attention_mask,
}

CONFIG_DEFAULTS: dict[str, object] = {
    "add_cross_attention": False,
    "bos_token_id": None,
    "cross_attention_hidden_size": None,
    "decoder_start_token_id": None,
    "eos_token_id": None,
    "is_decoder": False,
    "pad_token_id": None,
    "pruned_heads": {},
    "sep_token_id": None,
    "tie_encoder_decoder": False,
    "tie_word_embeddings": True,
    "torchscript": False,
    "use_bfloat16": False,
    "use_cache": True,
}

_AVAILABILITY: dict[str, object] = {
    "is_flax_available": lambda: False,
    "is_safetensors_available": lambda: True,
    "is_tf_available": lambda: False,
    "is_torch_fx_available": lambda: False,
}
_PRUNING: dict[str, object] = {
    "find_pruneable_heads_and_indices": find_pruneable_heads_and_indices,
    "prune_linear_layer": pytorch_utils.prune_linear_layer,
}
_EXPORT_CLASSES = ("OnnxConfig", "OnnxConfigWithPast", "OnnxSeq2SeqConfigWithPast")
_NAMES: dict[str, Mapping[str, object]] = {
    "transformers.modeling_utils": _PRUNING,
    "transformers.onnx": {name: type(name, (), {}) for name in _EXPORT_CLASSES},
    "transformers.pytorch_utils": _PRUNING,
    "transformers.utils": _AVAILABILITY,
    "transformers.utils.import_utils": _AVAILABILITY,
}


def builtins_for_old_code() -> dict[str, object]:
    """Python's built-ins, with an `__import__` that knows the names above."""
    return {**vars(builtins), "__import__": _import}


def _import(
    name: str,
    globals: Mapping[str, object] | None = None,  # noqa: A002 - the names are Python's
    locals: Mapping[str, object] | None = None,  # noqa: A002
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:  # noqa: ANN401 - a module, or what stands in for one
    gone = _NAMES.get(name, {}) if level == 0 else {}
    try:
        module = builtins.__import__(name, globals, locals, fromlist or (), level)
    except ModuleNotFoundError as error:
        if error.name != name or not gone or not fromlist:
            raise
        return types.SimpleNamespace(__name__=name, **gone)
    replaced = {wanted for wanted in fromlist or () if wanted in gone and not hasattr(module, wanted)}
    if not replaced:
        return module
    # `from module import a, b` asks what `__import__` gives for `a` and `b`, and keeps nothing else of it.
    found = {wanted: getattr(module, wanted) for wanted in fromlist or () if hasattr(module, wanted)}
    return types.SimpleNamespace(__name__=name, **found, **{wanted: gone[wanted] for wanted in replaced})
