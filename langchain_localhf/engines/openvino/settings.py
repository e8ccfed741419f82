"""How to run a graph, as plain data beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from langchain_localhf.checkpoint.images import ImagePreparation
from langchain_localhf.engines.openvino.devices import reason
from langchain_localhf.errors import CheckpointError
from langchain_localhf.store.plain_data import PlainData

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS_NAME = "graph.json"
# The graph for images, and the name of what it takes.
IMAGES_NAME = "images"
PIXELS_NAME = "pixel_values"


class GraphSettings(PlainData):
    """How to run a graph; `graph.json` beside it.

    Attributes:
        format: The version of this format.
        inputs: The names of its inputs, in their order; each takes whole numbers. Shape: `(texts, tokens)`.
        precision: The precision to calculate in; `auto` is bf16 on a processor that has it, else f32.
        max_tokens: How many tokens of a text are read, as its tokenizer knows, too; None if there is no limit.
        padding_side: Where shorter texts of a batch are filled up.
        pad_token_id: With what.
        pad_token_type_id: With what among the token types.
        padded_to: How many tokens every text is filled up to; None for as many as the longest of its batch has.
        built_for: The kind of machine that the programs beside the graphs were made for; None if there are none.
        routes: The kinds of text that have a graph of their own, `<kind>.xml`; all others go through `model.xml`.
        images: How images are prepared for `images.xml`, which takes them; None if there is no such graph.
    """

    format: Literal[1] = 1
    inputs: tuple[str, ...]
    precision: Literal["auto", "f32", "bf16", "int8"] = "f32"
    max_tokens: int | None
    padding_side: Literal["left", "right"] = "right"
    pad_token_id: int = 0
    pad_token_type_id: int = 0
    padded_to: int | None = None
    built_for: str | None = None
    routes: tuple[str, ...] = ()
    images: ImagePreparation | None = None

    @property
    def all_routes(self) -> tuple[str, ...]:
        """The names of all graphs for texts."""
        return ("model", *self.routes)

    @property
    def all_graphs(self) -> tuple[str, ...]:
        """The names of all graphs."""
        return (*self.all_routes, *([IMAGES_NAME] if self.images else []))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The settings of the graph in a folder.

        Raises:
            CheckpointError: They are damaged.
        """
        try:
            return cls.model_validate_json((folder / SETTINGS_NAME).read_bytes())
        except (OSError, ValueError) as error:
            raise unreadable(folder / SETTINGS_NAME, error) from error

    def changed(self, folder: Path, **changes: object) -> Self:
        """The settings with some changed, which is written to the folder, too."""
        new = type(self).model_validate({**dict(self), **changes})
        (folder / SETTINGS_NAME).write_text(new.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return new


def unreadable(path: Path, error: Exception) -> CheckpointError:
    """That a file of a graph is damaged."""
    msg = f"the compiled graph {path} cannot be read: {reason(error)}"
    return CheckpointError(msg, hint="compile the model again: localhf compile --force MODEL")
