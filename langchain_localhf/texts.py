"""What counts as a text, and what is said where it is none."""

from __future__ import annotations

from langchain_localhf.errors import InputError


def check_text(text: object, label: str, index: int | None) -> None:
    """Checks that this is a text that a tokenizer can read.

    Args:
        text: What was given.
        label: What it is, for the message, such as `texts[3]`.
        index: Its place in the list that was given, if there is one.

    Raises:
        InputError: It is none.
    """
    if not isinstance(text, str):
        msg = f"{label} is {type(text).__name__}; expected str"
        raise InputError(msg, index=index, hint="leave it out, or turn it into a text")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"{label} holds a lone surrogate at position {error.start}, which is no character"
        hint = 'repair the text where it was read: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")'
        raise InputError(msg, index=index, hint=hint) from None
