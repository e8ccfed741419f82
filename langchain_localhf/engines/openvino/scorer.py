"""Pairs of texts to scores with a compiled graph: without torch, and without transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_localhf.engines.base import PROBE_PAIRS
from langchain_localhf.engines.openvino.graph import Graph
from langchain_localhf.errors import InputError, UnsupportedModelError
from langchain_localhf.store.compilation import COMPILED_FOLDER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.engines.traceable import Traceable

_OF_ENCODERS = {"similarity_fn_name", "truncate_dim"}


class OpenVINOScorer:
    """A cross-encoder as one OpenVINO graph; see `langchain_localhf.engines.base.Scorer`.

    Args:
        checkpoint: What the model's files say.
        model_kwargs: What the user said about loading, already known to be possible with a graph.
        folder: The folder with the graph, if it is not in its place yet.
        precision: Another precision than the graph was compiled for.

    Raises:
        CheckpointError: The graph is damaged.
        DeviceUnavailableError: There is no such device on this machine.
        InputError: OpenVINO does not know a setting, or there is no such prompt, or a setting is for vectors only.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        model_kwargs: Mapping[str, Any],
        folder: Path | None = None,
        precision: str | None = None,
    ) -> None:
        if unknown := model_kwargs.keys() & _OF_ENCODERS:
            raise InputError(f"a cross-encoder has no {', '.join(sorted(unknown))}", hint="leave it out")
        self._prompt = _prompt(checkpoint, model_kwargs)
        self._graph = Graph(
            folder or checkpoint.folder / COMPILED_FOLDER,
            model_kwargs=model_kwargs,
            precision=precision,
        )
        self.labels = self._graph.dimension
        self.max_seq_length = self._graph.settings.max_tokens
        self.versions = self._graph.versions
        self.unused_weights: tuple[str, ...] = ()
        self.probe_scores = self.score(PROBE_PAIRS)

    def score(self, pairs: Sequence[tuple[str, str]], *, batch_size: int | None = None) -> NDArray[np.float32]:
        """Scores pairs of texts; see `langchain_localhf.engines.base.Scorer.score`."""
        prompted = [(self._prompt + first, second) for first, second in pairs]
        scores = self._graph.run(prompted, max_rows=batch_size)
        return scores[:, 0] if self.labels == 1 else scores

    def traceable(self, *, eager_attention: bool = False) -> Traceable:  # noqa: ARG002 - refused in any case
        """Refuses: what is compiled already cannot be traced again.

        Raises:
            UnsupportedModelError: Always.
        """
        raise UnsupportedModelError("a compiled graph cannot be compiled again", hint="compile the model itself")


def _prompt(checkpoint: Checkpoint, model_kwargs: Mapping[str, Any]) -> str:
    """What `CrossEncoder.predict` puts before the first text of every pair; nothing, for nearly every model."""
    name = model_kwargs.get("default_prompt_name") or checkpoint.settings.get("default_prompt_name")
    prompts = {**checkpoint.prompts, **(model_kwargs.get("prompts") or {})}
    if name is not None and name not in prompts:
        raise InputError(f"the model has no prompt called {name!r}", hint="leave default_prompt_name out")
    return prompts[name] if name is not None else ""
