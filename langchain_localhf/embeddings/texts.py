"""What counts as a list of texts, and what is said where it is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from langchain_localhf.errors import InputError
from langchain_localhf.texts import check_text


def checked_texts(texts: object) -> list[str]:
    """The texts as a list, read once.

    Raises:
        InputError: This is no list of texts; the error names the index of the one that is none.
    """
    if isinstance(texts, (str, bytes, Mapping)) or not isinstance(texts, Iterable):
        msg = f"embed_documents takes a list of texts, not {type(texts).__name__}"
        raise InputError(msg, hint="put a single text into a list, or use embed_query")
    checked = list(texts)  # read once: a generator has nothing left the second time
    for index, text in enumerate(checked):
        check_text(text, f"texts[{index}]", index)
    return checked
