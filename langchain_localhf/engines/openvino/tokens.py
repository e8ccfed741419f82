"""Texts as tokens and tokens as texts: by `tokenizer.json`, or as a GGUF file says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

import numpy as np
from openvino_genai import Tokenizer as GgufTokenizer
from tokenizers import Tokenizer

from langchain_localhf.engines.grammar.vocabulary import Words
from langchain_localhf.errors import CheckpointError, IncompleteModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_localhf.engines.openvino.model_files import ModelFiles

# Names of `tokenizer_config.json`; chat templates may refer to them, too.
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# The kinds of tokens in a GGUF file that are not made of others; those of control are special.
_OF_CONTROL, _ADDED = 3, 4
_BYTE_LEVEL = "gpt2"


class Tokens(Protocol):
    """A model's tokenizer. Safe to use from many threads."""

    @property
    def special(self) -> Mapping[str, int]:
        """The special tokens, by what they look like."""

    @property
    def named(self) -> Mapping[str, str]:
        """What special tokens look like, by their part: `bos_token`, `eos_token` and the like."""

    @property
    def size(self) -> int:
        """How many tokens it knows."""

    @property
    def words(self) -> Words | None:
        """What the tokenizer says of itself; None if it was made of something else than a `tokenizer.json`."""

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
        self.size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)

    @property
    def words(self) -> Words:
        added = {token.content: token_id for token_id, token in self._tokenizer.get_added_tokens_decoder().items()}
        return Words(self._tokenizer.to_str(), self.size, added)

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=special_tokens).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=False))

    def token_id(self, token: str) -> int | None:
        found: int | None = self._tokenizer.token_to_id(token)
        return found


class _OfGguf:
    def __init__(self, files: ModelFiles) -> None:
        try:
            self._tokenizer = GgufTokenizer(files.model)
        except RuntimeError as error:
            msg = f"the tokenizer in {files.model} cannot be read: {error}"
            raise CheckpointError(msg, hint="use a GGUF file of a model that openvino-genai supports") from error
        self._metadata = files.gguf
        self._texts: list[str] = files.gguf.get("tokenizer.ggml.tokens", [])
        self._ids = {text: token_id for token_id, text in enumerate(self._texts)}
        kinds = zip(self._texts, files.gguf.get("tokenizer.ggml.token_type", ()), strict=False)
        self._added = {text: kind == _OF_CONTROL for text, kind in kinds if kind in {_OF_CONTROL, _ADDED}}
        self.special = {text: self._ids[text] for text, is_special in self._added.items() if is_special}
        places = {name: files.gguf.get(f"tokenizer.ggml.{name}_id") for name in _SPECIAL}
        self.named = {name: self._texts[place] for name, place in places.items() if place is not None}
        self.size = len(self._texts)

    @property
    def words(self) -> Words | None:
        """The same tokens as a `tokenizer.json`; how it would split a text is near enough."""
        if self._metadata.get("tokenizer.ggml.model") != _BYTE_LEVEL:
            return None
        merges = [merge.split(" ") for merge in self._metadata.get("tokenizer.ggml.merges", ())]
        described = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        added = [
            {"id": self._ids[text], "content": text, "special": is_special, **described}
            for text, is_special in self._added.items()
        ]
        description = {
            "version": "1.0",
            "added_tokens": added,
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "vocab": self._ids, "merges": merges},
        }
        return Words(json.dumps(description), self.size, {text: self._ids[text] for text in self._added})

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
