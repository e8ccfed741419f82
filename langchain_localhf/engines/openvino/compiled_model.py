"""What an encoder and a cross-encoder have in common once they are compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_localhf.engines.openvino.graph import Graph
from langchain_localhf.errors import UnsupportedModelError
from langchain_localhf.store.compilation import COMPILED_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.engines.traceable import Traceable


class CompiledModel:
    """A model whose texts go through a graph.

    Args:
        checkpoint: What the model's files say.
        model_kwargs: What the user said about loading, already known to be possible with a graph.
        folder: The folder with the graph, if it is not in its place yet.
        precision: Another precision than the graph was compiled for.

    Raises:
        CheckpointError: The graph is damaged.
        DeviceUnavailableError: There is no such device on this machine.
        InputError: OpenVINO does not know a setting.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        model_kwargs: Mapping[str, Any],
        folder: Path | None = None,
        precision: str | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._model_kwargs = model_kwargs
        self._folder = folder or checkpoint.folder / COMPILED_FOLDER
        self._graph = Graph(self._folder, model_kwargs=model_kwargs, precision=precision)
        self.max_seq_length = self._graph.settings.max_tokens
        self.versions = self._graph.versions
        self.unused_weights: tuple[str, ...] = ()

    def traceable(self, *, eager_attention: bool = False) -> Traceable:  # noqa: ARG002 - refused in any case
        """Refuses: what is compiled already cannot be traced again.

        Raises:
            UnsupportedModelError: Always.
        """
        raise UnsupportedModelError("a compiled graph cannot be compiled again", hint="compile the model itself")
