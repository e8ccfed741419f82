"""What is asked of a generator: a prompt, and how the answer is to be made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Prompt:
    """A prompt as its model reads it.

    Attributes:
        token_ids: The tokens, with the model's special ones.
        media: What the engine made of the images in the prompt, if there are any; nobody else looks at it.
    """

    token_ids: tuple[int, ...]
    media: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Tag:
    """A form of text: `begin`, then one JSON value, then `end`.

    Attributes:
        begin: What stands before the value, such as `<tool_call>{"name": "add", "arguments": `.
        schema: The JSON schema of the value.
        end: What stands behind it, such as `}</tool_call>`.
        trigger: The start of `begin` that is never ordinary text, such as `<tool_call>`.
    """

    begin: str
    schema: Mapping[str, Any]
    end: str = ""
    trigger: str = ""


@dataclass(frozen=True)
class Constraint:
    """What the whole generated text has to look like.

    Attributes:
        tags: The forms to choose from.
        free_text: Whether the model may also write other text, before, between and instead of the tags; whatever
            begins with a tag's trigger then has that tag's form. Without it, the answer is exactly one tag.
        after: Free text comes first, up to and including this marker, such as `</think>`; empty for none.
    """

    tags: tuple[Tag, ...]
    free_text: bool = False
    after: str = ""


@dataclass(frozen=True, eq=False)
class Request:
    """One answer that is wanted.

    Attributes:
        prompt: What to continue or to answer.
        max_tokens: The most tokens to generate, at least 1; prompt and answer fit into the context window.
        stop: The answer ends before the first of these texts; none is empty.
        seed: What makes sampling repeatable; None for another answer every time.
        sample: Which of several answers to the same prompt this is, counted from 0; they differ though the seed is one.
        logprobs: How many alternatives to report for each token, beside its own log probability; None to report none.
        constraint: What the answer has to look like, or None.
        markers: Texts that matter to whoever reads the answer: special tokens in them are kept, all others left out.
        options: Settings of the engine's own, such as `temperature`; only names in `Generator.options`.
    """

    prompt: Prompt
    max_tokens: int
    stop: tuple[str, ...] = ()
    seed: int | None = None
    sample: int = 0
    logprobs: int | None = None
    constraint: Constraint | None = None
    markers: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def check_text(text: object) -> None:
    """Checks that a prompt can be tokenized.

    Raises:
        InputError: It is no text, or holds half a character.
    """
    if not isinstance(text, str):
        raise InputError(f"a prompt should be a text, not {type(text).__name__}", hint="pass a string")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"the prompt holds half a character (a lone surrogate) at position {error.start}"
        raise InputError(msg, hint='repair it with text.encode("utf-16", "surrogatepass").decode("utf-16")') from error
