"""A cross-encoder for LangChain from a model that is already on this machine.

Drop-in for `langchain_community.cross_encoders.HuggingFaceCrossEncoder`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.runnables import run_in_executor
from pydantic import Field

from langchain_localhf.errors import CheckpointError, InputError
from langchain_localhf.loaded import LoadedScorer
from langchain_localhf.loading import load_scorer
from langchain_localhf.model_holder import ModelHolder
from langchain_localhf.texts import check_text

_ONE_PAIR = 2


class HuggingFaceCrossEncoder(ModelHolder[LoadedScorer], BaseCrossEncoder):
    """Scores pairs of texts, such as a question and a passage, with a cross-encoder from this machine; never downloads.

    ```python
    from langchain_localhf import HuggingFaceCrossEncoder

    cross_encoder = HuggingFaceCrossEncoder(model_name="cross-encoder/ms-marco-MiniLM-L6-v2")
    scores = cross_encoder.score([("Where is the harbour?", "It lies to the south.")])
    ```

    The model is loaded, verified and proved sound when the object is made. Objects with equal settings share it.
    All methods are safe to call from many threads. A pickled object holds its settings only, and loads the model again
    where it is unpickled.

    Raises:
        ModelReferenceError: The model's name cannot be read.
        ModelNotFoundError: The model is not on this machine; the hint is the command that brings it.
        IntegrityError: Its files are not those that were pulled.
        CheckpointError: The model is incomplete, unsafe, no cross-encoder, or would not run with its own weights.
        EngineError: Its engine is not installed, or there is no such device.
        InputError: The model has several labels, and nothing says which one is meant.
        pydantic.ValidationError: A field is misspelt, or its value has the wrong type.
    """

    model_name: str = Field(default="BAAI/bge-reranker-base", alias="model", frozen=True)
    """A folder, `org/name`, `org/name@revision`, or a bare name from cross-encoder."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict, frozen=True)
    """What `CrossEncoder(...)` takes, such as `device`, `max_length`, `activation_fn` or `trust_remote_code`; for the
    OpenVINO engine, also `ov_config`."""
    label: int | str | None = Field(default=None, frozen=True)
    """Which of the model's labels gives the score, by its place or its name; for a model with three or more. None
    means the only one, or the second of two, as models for relevance have it."""
    batch_size: int | None = Field(default=None, gt=0)
    """How many pairs run together at most; None for as many as pay."""

    def __init__(self, **fields: object) -> None:
        # Stated for type checkers, which would make one for each class that knows `model` and not `model_name`.
        super().__init__(**fields)

    def _load(self) -> LoadedScorer:
        loaded = load_scorer(
            self.model_name,
            cache_folder=self.cache_folder,
            backend=self.backend,
            model_kwargs=self.model_kwargs,
        )
        loaded.place_of(self.label)  # asked now: a service should not start with the wrong model
        return loaded

    @property
    def max_seq_length(self) -> int | None:
        """How many tokens of a pair are read; the longer text loses the rest. None if there is no limit."""
        return self._model.scorer.max_seq_length

    def score(self, text_pairs: Iterable[tuple[str, str]]) -> list[float]:
        """Scores pairs of texts, after the model's own activation function; a pair given twice is scored once.

        Args:
            text_pairs: The pairs, as a list or anything else that gives one after the other, read once.

        Returns:
            One float a pair, in the order of the pairs. More is better.

        Raises:
            InputError: An item is no pair of texts; the error names its index.
            CheckpointError: The model gives no number for a pair; the error names its index.
            EngineError: This object was closed.
        """
        pairs = _checked_pairs(text_pairs)
        model = self._model
        if not pairs:
            return []
        unique = list(dict.fromkeys(pairs))
        scores = model.relevance(unique, label=self.label, batch_size=self.batch_size)
        finite = np.isfinite(scores)
        if not finite.all():
            index = pairs.index(unique[int(np.argmin(finite))])
            msg = f"the model gives no finite score for text_pairs[{index}]"
            raise CheckpointError(msg, hint="if the model runs in half precision, load it in float32")
        score_of = dict(zip(unique, scores.tolist(), strict=True))
        return [score_of[pair] for pair in pairs]

    async def ascore(self, text_pairs: Iterable[tuple[str, str]]) -> list[float]:
        """As `score`, in a thread: the event loop stays free."""
        return await run_in_executor(None, self.score, text_pairs)


def _checked_pairs(text_pairs: object) -> list[tuple[str, str]]:
    """The pairs as a list, read once.

    Raises:
        InputError: This is no list of pairs of texts; the error names the index of the one that is none.
    """
    if isinstance(text_pairs, (str, bytes, Mapping)) or not isinstance(text_pairs, Iterable):
        msg = f"score takes a list of pairs of texts, not {type(text_pairs).__name__}"
        raise InputError(msg, hint="put a single pair into a list")
    checked = []
    for index, pair in enumerate(text_pairs):
        if isinstance(pair, (str, bytes)) or not isinstance(pair, Sequence) or len(pair) != _ONE_PAIR:
            msg = f"text_pairs[{index}] is {_described(pair)}; expected a pair of texts"
            raise InputError(msg, index=index, hint="write it as (question, passage)")
        for side, text in enumerate(pair):
            check_text(text, f"text_pairs[{index}][{side}]", index)
        checked.append((pair[0], pair[1]))
    return checked


def _described(item: object) -> str:
    kind = type(item).__name__
    return f"{kind} of {len(item)}" if isinstance(item, Sequence) and not isinstance(item, (str, bytes)) else kind
