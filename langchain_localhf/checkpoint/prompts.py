"""Which prompt is put before a text: what sentence-transformers decides when it encodes, told from the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_localhf.checkpoint.checkpoint import Checkpoint

_DOCUMENT_PROMPT_NAMES = ("document", "passage", "corpus")


def document_prompt_name(checkpoint: Checkpoint, model_kwargs: Mapping[str, Any]) -> str | None:
    """The name of the prompt that the model or the user states for documents, or None.

    `SentenceTransformer.encode_document` takes the first of `document`, `passage` and `corpus` that is there. From
    version 6 on an empty `document` always is, and is saved with the model, so that it hides a `passage` that someone
    wrote. So an empty prompt of the checkpoint states nothing; one that the user gives does.
    """
    given = model_kwargs.get("prompts") or {}
    saved = {name: text for name, text in checkpoint.prompts.items() if text}
    return next((name for stated in (given, saved) for name in _DOCUMENT_PROMPT_NAMES if name in stated), None)


def prompt_for(
    kind: Literal["query", "document"],
    checkpoint: Checkpoint,
    model_kwargs: Mapping[str, Any],
    encode_kwargs: Mapping[str, Any],
) -> str:
    """The text that is put before every text of this kind; empty for none.

    Raises:
        InputError: A prompt is asked for by a name that there is not.
    """
    if encode_kwargs.get("prompt") is not None:
        return str(encode_kwargs["prompt"])
    prompts = {**checkpoint.prompts, **(model_kwargs.get("prompts") or {})}
    asked = encode_kwargs.get("prompt_name")
    if asked is not None and asked not in prompts:
        msg = f"the model has no prompt called {asked!r}"
        raise InputError(msg, hint=f"it has {', '.join(sorted(prompts)) or 'none'}; or give the text itself as prompt=")
    name = asked or ("query" if kind == "query" else document_prompt_name(checkpoint, model_kwargs))
    return str(prompts.get(name, "")) if name else ""
