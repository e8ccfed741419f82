"""What an engine hands over so that another one can compile its model: the only thing engines know of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_localhf.checkpoint.images import ImagePreparation


@dataclass(frozen=True)
class TraceableImages:
    """The part of a dual encoder that reads images, as one torch module.

    Attributes:
        module: Takes pixels as `engines.images.normalized` gives them, `(images, 3, height, width)`, and gives vectors.
            Shape: `(images, dimension)`.
        example: Such pixels, of two images.
        preparation: How an image becomes pixels.
    """

    module: Any
    example: Any
    preparation: ImagePreparation


@dataclass(frozen=True)
class Traceable:
    """A whole model as one torch module, with everything around it that is needed to run it elsewhere.

    Attributes:
        modules: The module; others beside it for kinds of text that go another way, by the kind. A module takes the
            tensors of `inputs` and gives one. Shape: `(texts, dimension)`.
        inputs: The names of the inputs, in their order; each holds whole numbers. Shape: `(texts, tokens)`.
        examples: A value for each input: texts of different lengths, padded.
        tokenizer_json: The tokenizer, as the `tokenizers` library reads it, with truncation and without padding.
        max_tokens: How many tokens of a text are read; None if there is no limit.
        padding_side: Where shorter texts of a batch are filled up.
        pad_token_id: With what.
        pad_token_type_id: With what among the token types.
        padded_to: How many tokens every text has, because the model was trained so; None to pad to the longest only.
        images: The part that reads images, if there is one.
    """

    modules: Mapping[str, Any]
    inputs: tuple[str, ...]
    examples: tuple[Any, ...]
    tokenizer_json: str
    max_tokens: int | None
    padding_side: Literal["left", "right"]
    pad_token_id: int
    pad_token_type_id: int
    padded_to: int | None = None
    images: TraceableImages | None = None
