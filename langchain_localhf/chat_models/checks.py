"""What the arguments of a chat model have to be, with messages that help."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import BaseModel

    from langchain_localhf.engines.base import Generator

# Two tokenizers that read this alike are taken for the same.
_PROBE_TEXT = 'Größe 21 °C, 東京: {"a": [1]}\n'


def names_of_fields(model: type[BaseModel]) -> set[str]:
    """The names by which the fields of a Pydantic class can be set."""
    return {*model.model_fields} | {field.alias for field in model.model_fields.values() if field.alias}


def refuse_unknown_fields(model: type[BaseModel], names: Iterable[str]) -> None:
    """Refuses the name of no field of a Pydantic class.

    Raises:
        InputError: There is one; the hint is what it may have been meant to be.
    """
    known = names_of_fields(model)
    for name in names:
        if name not in known:
            similar = get_close_matches(name, known, n=1)
            hint = f"did you mean {similar[0]}?" if similar else f"settings go to model_kwargs={{{name!r}: ...}}"
            raise InputError(f"{model.__name__} has no field {name!r}", hint=hint)


def refuse_other_tokenizer(tokenizer: Any, generator: Generator) -> None:  # noqa: ANN401 - whatever the user has
    """Refuses a tokenizer that is not the generator's.

    Raises:
        InputError: It reads a text differently, or has another chat template.
    """
    try:
        same = tokenizer(_PROBE_TEXT, add_special_tokens=False)["input_ids"] == generator.token_ids(_PROBE_TEXT)
    except (TypeError, ValueError, KeyError):
        same = False
    if not same or getattr(tokenizer, "chat_template", None) != generator.chat_template:
        msg = "this is not the tokenizer that the model came with, or its chat template was changed"
        hint = 'leave tokenizer out; for another template pass chat_template_kwargs={"chat_template": ...}'
        raise InputError(msg, hint=hint)
