"""Texts as tokens and tokens as texts: by `tokenizer.json`, or as a GGUF file says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from openvino_genai import Tokenizer as GgufTokenizer
from tokenizers import Tokenizer

from langchain_localhf.errors import CheckpointError, IncompleteModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_localhf.engines.openvino.model_files import ModelFiles

# Names of `tokenizer_config.json`; chat templates may refer to them, too.
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_OF_CONTROL = 3  # the kind of a token in a GGUF file that is special


class Tokens(Protocol):
    """A model's tokenizer. Safe to use from many threads."""

    @property
    def special(self) -> Mapping[str, int]:
        """The special tokens, by what they look like."""

    @property
    def named(self) -> Mapping[str, str]:
        """What special tokens look like, by their part: `bos_token`, `eos_token` and the like."""

    @property
    def description(self) -> str | None:
        """The `tokenizer.json`; None if the tokenizer was made of something else."""

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        """The tokens of a text; with `special_tokens`, those that stand around a text, too."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of tokens, special ones and all."""

    def token_id(self, token: str) -> int | None:
        """The token that looks like this."""


def read_tokens(files: ModelFiles) -> Tokens:
    """The tokenizer of a model.

    Raises:
        IncompleteModelError: There is none.
        CheckpointError: It cannot be read.
    """
    return _OfGguf(files) if files.is_gguf else _OfJson(files)


class _OfJson:
    def __init__(self, files: ModelFiles) -> None:
        path = files.path("tokenizer.json")
        if path is None:
            msg = f"tokenizer.json is missing in {files.folders[0]}"
            raise IncompleteModelError(msg, missing=("tokenizer.json",), hint="export or copy the model again")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            msg = f"{path} cannot be read: {error}"
            raise CheckpointError(msg, hint="export or copy the model again") from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        added = self._tokenizer.get_added_tokens_decoder()
        self.special = {token.content: token_id for token_id, token in added.items() if token.special}
        self.named = _named(files.tokenizer_config)

    @property
    def description(self) -> str:
        return str(self._tokenizer.to_str())

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=special_tokens).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def token_id(self, token: str) -> int | None:
        found: int | None = self._tokenizer.token_to_id(token)
        return found


class _OfGguf:
    description = None

    def __init__(self, files: ModelFiles) -> None:
        try:
            self._tokenizer = GgufTokenizer(files.model)
        except RuntimeError as error:
            msg = f"the tokenizer in {files.model} cannot be read: {error}"
            raise CheckpointError(msg, hint="use a GGUF file of a model that openvino-genai supports") from error
        words = files.gguf.get("tokenizer.ggml.tokens", ())
        kinds = files.gguf.get("tokenizer.ggml.token_type", ())
        self._ids = {word: token_id for token_id, word in enumerate(words)}
        self.special = {word: self._ids[word] for word, kind in zip(words, kinds, strict=False) if kind == _OF_CONTROL}
        places = {name: files.gguf.get(f"tokenizer.ggml.{name}_id") for name in _SPECIAL}
        self.named = {name: words[place] for name, place in places.items() if place is not None and place < len(words)}

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        encoded = self._tokenizer.encode(text, add_special_tokens=special_tokens)
        return [int(token_id) for token_id in np.asarray(encoded.input_ids.data).reshape(-1)]

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False)) if token_ids else ""

    def token_id(self, token: str) -> int | None:
        return self._ids.get(token)


def _named(config: Mapping[str, object]) -> dict[str, str]:
    contents = {name: config.get(name) for name in _SPECIAL}
    texts = {name: token.get("content") if isinstance(token, dict) else token for name, token in contents.items()}
    return {name: text for name, text in texts.items() if isinstance(text, str)}
