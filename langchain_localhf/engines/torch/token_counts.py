"""How many tokens a text has, counted beside the model: while it runs, its own tokenizer is taken."""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager


class TokenCounter:
    """Counts the tokens of texts, or of pairs of texts. Safe to call from many threads at once.

    Args:
        tokenizer: The tokenizer of a sentence-transformers model.
        lock: What is held while the tokenizer runs in the model; only a tokenizer that cannot be copied waits for it.
    """

    def __init__(self, tokenizer: Any, *, lock: AbstractContextManager[Any]) -> None:  # noqa: ANN401 - there are several kinds
        self._tokenizer, self._lock = tokenizer, lock
        self._copying = threading.Lock()

    def count(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[int]:
        """The number of tokens of each text: all of them, with the special ones, without padding."""
        with self._copying:  # the first one makes the copy
            copy = self._copy
        if copy is not None:
            return [len(tokens) for tokens in copy.encode_batch_fast(list(texts))]
        tokenizer = self._tokenizer
        if isinstance(tokenizer, Tokenizer):  # of a model without a transformer, which reads words only
            return [len(tokens) for tokens in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]
        with self._lock:
            if isinstance(tokenizer, PreTrainedTokenizerBase):
                # Not verbose: that warns of a text that is longer than what the model reads.
                return [len(tokens) for tokens in tokenizer(list(texts), verbose=False)["input_ids"]]
            return [len(tokenizer.tokenize(text)) for text in texts]

    @cached_property
    def _copy(self) -> Tokenizer | None:
        """A tokenizer of its own, as a call of the model's sets up truncation and padding in the tokenizer itself."""
        if not isinstance(self._tokenizer, PreTrainedTokenizerBase) or not self._tokenizer.is_fast:
            return None
        copy = Tokenizer.from_str(self._tokenizer.backend_tokenizer.to_str())
        copy.no_padding()
        copy.no_truncation()
        return copy
