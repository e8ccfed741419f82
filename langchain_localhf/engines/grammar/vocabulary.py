"""The tokens of a model, as far as grammars care: what each stands for, and which lead to the end of an answer."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLTokenizer

from langchain_localhf.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Escapes, the bytes of a character and the signs of a number are not counted, and a token may hold two of what is.
_SLACK = 1.5
# The tokens that end something, in the order in which to try them where no string is open.
# The first are special ones, which may end a tag.
_ENDING = (b"", b"}", b"]", b'"', b",", b":")
# What else may end a number: the start of what a tag has behind its value.
_OTHER_ENDS = tuple(bytes([byte]) for byte in b" \t\r\n!#$%&'()*/;<=>?@^_`|~")
QUOTE, COMMA = _ENDING.index(b'"'), _ENDING.index(b",")


@dataclass(frozen=True)
class Words:
    """What a tokenizer says of itself.

    Attributes:
        description: Its `tokenizer.json`.
        size: How many tokens it knows.
        added: The tokens that were added to its vocabulary, special ones among them, by what they look like.
    """

    description: str
    size: int
    added: Mapping[str, int]


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model.

    Attributes:
        tokens: llguidance's view of the tokenizer.
        width: How many scores the model gives; `known` of them belong to tokens.
        known: How many scores belong to tokens.
        end_ids: The tokens that end an answer; `ends` is their mask.
        ends: The mask of `end_ids`.
        special: The special tokens, by what they look like.
        texts: What each token stands for; empty for special ones.
        rank: How well each token leads to the end of a JSON value, outside of its strings; the least is the best.
        letters: Tokens that can follow at once only inside of a string.
    """

    tokens: LLTokenizer
    width: int
    known: int
    end_ids: frozenset[int]
    ends: NDArray[np.bool_]
    special: dict[str, int]
    texts: tuple[bytes, ...]
    rank: NDArray[np.int8]
    letters: NDArray[np.int64]

    @classmethod
    def read(cls, words: Words, width: int, end_ids: frozenset[int]) -> Vocabulary:
        """Reads a tokenizer; takes a second for a large one.

        Raises:
            UnsupportedModelError: It is of a kind that llguidance does not know.
        """
        description = json.loads(words.description) | {"padding": None, "truncation": None}
        try:
            size = max(width, words.size)
            tokens = LLTokenizer(json.dumps(description), n_vocab=size, eos_token=sorted(end_ids) or None)
        except ValueError as error:
            msg = f"llguidance cannot read the model's tokenizer: {error}"
            raise UnsupportedModelError(msg, hint="leave the required form of the answer out") from error
        known = min(width, words.size)
        special = {text: token for text, token in words.added.items() if tokens.is_special_token(token)}
        hidden = {*special.values(), *end_ids}
        texts = tuple(b"" if token in hidden else tokens.decode_bytes([token]) for token in range(known))
        rank = np.full(width, np.iinfo(np.int8).max - 1, dtype=np.int8)
        rank[:known] = [_rank(text) for text in texts]
        return cls(
            tokens=tokens,
            width=width,
            known=known,
            end_ids=end_ids,
            ends=np.isin(np.arange(width), list(end_ids)),
            special=special,
            texts=texts,
            rank=rank,
            letters=np.array([token for token in range(known) if texts[token] in {b"x", b"z"}], dtype=np.int64),
        )

    def count(self, text: str) -> int:
        """About how many tokens a text has, and rather more."""
        return math.ceil(_SLACK * len(self.tokens.tokenize_str(text)))

    def containing(self, character: str) -> NDArray[np.bool_]:
        """The tokens with a character in them. Shape: `(vocabulary,)`."""
        last = character.encode()[-1:]
        found = np.zeros(self.width, dtype=np.bool_)
        found[: self.known] = [last in text for text in self.texts]
        return found


def _rank(text: bytes) -> int:
    if text in _ENDING:
        return _ENDING.index(text)
    ways = (text[:1] in _OTHER_ENDS, text[:1] not in {b"[", b"{"}, text[:1] == b"[")
    return len(_ENDING) + next((number for number, fits in enumerate(ways) if fits), len(ways))
