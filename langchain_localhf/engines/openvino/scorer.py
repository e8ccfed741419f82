"""Pairs of texts to scores with a compiled graph: without torch, and without transformers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_localhf.engines.base import PROBE_PAIRS
from langchain_localhf.engines.openvino.compiled_model import CompiledModel
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.checkpoint import Checkpoint

_OF_ENCODERS = {"similarity_fn_name", "truncate_dim"}


class OpenVINOScorer(CompiledModel):
    """A cross-encoder as one OpenVINO graph; see `langchain_localhf.engines.base.Scorer`.

    Arguments and errors are those of `CompiledModel`.

    Raises:
        InputError: There is no such prompt, or a setting is for vectors only.
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
        super().__init__(checkpoint, model_kwargs=model_kwargs, folder=folder, precision=precision)
        self.labels = self._graph.dimension
        self.probe_scores = self.score(PROBE_PAIRS)

    def score(self, pairs: Sequence[tuple[str, str]], *, batch_size: int | None = None) -> NDArray[np.float32]:
        """Scores pairs of texts; see `langchain_localhf.engines.base.Scorer.score`."""
        scores = self._graph.run(self._prompted(pairs), max_rows=batch_size)
        return scores[:, 0] if self.labels == 1 else scores

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """How many tokens each pair has; see `langchain_localhf.engines.base.Scorer.count_tokens`."""
        return self._graph.count_tokens(self._prompted(pairs))

    def _prompted(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        return [(self._prompt + first, second) for first, second in pairs]


def _prompt(checkpoint: Checkpoint, model_kwargs: Mapping[str, Any]) -> str:
    """What `CrossEncoder.predict` puts before the first text of every pair; nothing, for nearly every model."""
    name = model_kwargs.get("default_prompt_name") or checkpoint.settings.get("default_prompt_name")
    prompts = {**checkpoint.prompts, **(model_kwargs.get("prompts") or {})}
    if name is not None and name not in prompts:
        raise InputError(f"the model has no prompt called {name!r}", hint="leave default_prompt_name out")
    return prompts[name] if name is not None else ""
