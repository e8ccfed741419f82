"""A constraint, compiled: where an answer begins, and how much room its parts need."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from llguidance import LLMatcher

from langchain_localhf.engines.generation.shortest import largest_addition, shortest_instance
from langchain_localhf.engines.grammar.lark import lark_grammar, trigger_of
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_localhf.engines.generation.request import Constraint
    from langchain_localhf.engines.grammar.vocabulary import Vocabulary

# What one token can add to those that complete an answer, beside what the schema says.
_SLACK_TOKENS = 4


@dataclass(frozen=True)
class Form:
    """A compiled constraint.

    Attributes:
        start: The state before the first token.
        free_text: Whether text may stand around the tags.
        after: The marker that comes first.
        growth: How many tokens one token can add, at most, to those that complete an answer.
        completion: How many tokens complete the shortest answer, without the marker.
        tag_tokens: How many tokens a tag in free text has to have left.
        completes_trigger: The tokens with which a trigger may be complete. Shape: `(vocabulary,)`.
    """

    start: LLMatcher
    free_text: bool
    after: str
    growth: int
    completion: int
    tag_tokens: int
    completes_trigger: NDArray[np.bool_]

    @classmethod
    def compiled(cls, constraint: Constraint, vocabulary: Vocabulary) -> Form:
        """Compiles a constraint.

        Raises:
            InputError: llguidance cannot guarantee what the schema asks for.
        """
        start = LLMatcher(vocabulary.tokens, lark_grammar(constraint, vocabulary), log_level=0)
        if start.is_error():
            msg = f"the form of the answer cannot be guaranteed: {first_line(start.get_error())}"
            raise InputError(msg, hint="leave this out of the schema, or check the answers yourself")
        shortest = [f"{tag.begin}{shortest_instance(tag.schema) or ''}{tag.end}" for tag in constraint.tags]
        needs = [vocabulary.count(text) for text in shortest]
        added = max((vocabulary.count(largest_addition(tag.schema)) for tag in constraint.tags), default=0)
        growth = _SLACK_TOKENS + added + max(needs) - min(needs)
        completes = np.zeros(vocabulary.width, dtype=np.bool_)
        if constraint.free_text:
            for trigger in {trigger_of(tag) for tag in constraint.tags}:
                completes |= vocabulary.containing(trigger[-1])
                completes[[token for text, token in vocabulary.special.items() if text in trigger]] = True
        return cls(
            start=start,
            free_text=constraint.free_text,
            after=constraint.after,
            growth=growth,
            completion=0 if constraint.free_text else max(needs),
            tag_tokens=max(needs) + growth,
            completes_trigger=completes,
        )


def first_line(message: str) -> str:
    """What llguidance says, without its place in a grammar that nobody has seen."""
    text = re.sub(r"^at \d+\(\d+\): ", "", message).split("\n   1 |")[0].split("\n<state>")[0]
    return re.sub(r"\s+", " ", text).strip()[:300]
