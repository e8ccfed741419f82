"""Whether a tokenizer belongs to the model that it was loaded with: both load without the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from langchain_localhf.errors import CheckpointError, IncompleteModelError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

    from langchain_localhf.checkpoint.checkpoint import Checkpoint

_SAMPLE = 64
_MIN_SHARE = 0.5


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, model: nn.Module, checkpoint: Checkpoint) -> None:
    """Checks that a tokenizer knows the tokens that a model has weights for, no more and not much less.

    Raises:
        CheckpointError: It knows more.
        IncompleteModelError: It knows too few words, or none.
    """
    rows = _rows(model)
    if rows is None:
        return
    words = len(tokenizer)
    # Gemma 3 shares its tokenizer with models that also see images, whose marker lies behind the table.
    markers = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    if not set(range(rows, words)) <= markers:
        msg = f"the tokenizer in {checkpoint.folder} knows {words} tokens, but the model has weights for {rows}"
        raise CheckpointError(msg, hint="the tokenizer belongs to another model; pull or copy the model again")
    # In the model's own words, whatever its language: a tokenizer that works knows what it writes itself.
    own_words = tokenizer.decode(list(range(0, words, max(1, words // _SAMPLE))))
    blind = set(tokenizer(own_words, truncation=True)["input_ids"]) <= set(tokenizer.all_special_ids)
    if words < rows * _MIN_SHARE or blind:
        msg = f"the tokenizer in {checkpoint.folder} knows {words} tokens of {rows}; its files are incomplete"
        raise IncompleteModelError(msg, missing=("tokenizer.json",), hint="pull or copy the model again")


def _rows(model: nn.Module) -> int | None:
    """How many tokens a model has weights for; None for a model that reads none."""
    try:
        return int(cast("Tensor", model.get_input_embeddings().weight).shape[0])  # type: ignore[operator]
    except (NotImplementedError, AttributeError):  # as of dual encoders, and of models for images only
        text_config = getattr(model.config, "text_config", None)
        return getattr(text_config, "vocab_size", None)
