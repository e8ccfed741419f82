"""Pairs of texts to scores with sentence-transformers."""

from __future__ import annotations

import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from sentence_transformers import CrossEncoder
from transformers.tokenization_utils_base import LARGE_INTEGER

from langchain_localhf.engines.base import PROBE_PAIRS
from langchain_localhf.engines.batching import batches
from langchain_localhf.engines.torch.refusals import check_device, padding_required, refuse_pickle
from langchain_localhf.engines.torch.remote_code import code_for, trusted_code
from langchain_localhf.engines.torch.soundness import prove, recorded_loading
from langchain_localhf.engines.torch.token_counts import TokenCounter
from langchain_localhf.engines.torch.tracing import traceable_scorer
from langchain_localhf.errors import CheckpointError, InputError
from langchain_localhf.store.offline import hub_offline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.engines.traceable import Traceable
    from langchain_localhf.store.manifest import Manifest

# A text's first so many characters tell its cost; no tokenizer has much longer tokens on average.
_CHARACTERS_A_TOKEN = 8
_ASSUMED_MAX_TOKENS = 8192
_LIBRARIES = ("sentence-transformers", "transformers", "torch", "tokenizers")


class TorchScorer:
    """A cross-encoder in sentence-transformers, loaded from a folder, offline, and proved sound.

    Args:
        checkpoint: The model's files, already checked to be complete and safe.
        name: The model's repository, or another name for messages.
        model_kwargs: Passed to `CrossEncoder(...)` untouched; this object may change it.
        manifest: What the files should be, or None; code is compared with it before it runs.

    Raises:
        UnsafeModelError: The model needs code that the user does not trust, or is to be read as pickle.
        IncompleteModelError: The model needs code that is not here.
        IntegrityError: Its code is not what the manifest says.
        UninitializedWeightsError: The model would not run with the checkpoint's own weights, such as those of its
            classifier.
        CheckpointError: The weights or the tokenizer are damaged.
        DeviceUnavailableError: There is no such device on this machine.
        UnsupportedModelError: The architecture is unknown, or the model's code does not run here.
        InputError: More tokens are stated than the model can read.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, name: str, model_kwargs: dict[str, Any], manifest: Manifest | None = None
    ) -> None:
        self._lock = threading.RLock()
        check_device(model_kwargs.get("device"))
        refuse_pickle(model_kwargs.get("model_kwargs") or {})
        trusted = bool(model_kwargs.get("trust_remote_code"))
        code = code_for(checkpoint, trusted=trusted, name=name, manifest=manifest, auto_model=checkpoint.auto_model)
        with hub_offline(), recorded_loading() as report, trusted_code(code, name=name):
            self._model = _load(checkpoint, model_kwargs | {"trust_remote_code": code is not None})
        # A multimodal model takes a text that looks like an address for an image, and fetches it.
        self._mark_as_text = "image" in self._model.modalities
        self.labels = int(self._model.num_labels)
        limit = self._model.max_seq_length
        self.max_seq_length = None if limit is None or limit > LARGE_INTEGER else int(limit)
        self._counter = TokenCounter(self._model.tokenizer, lock=self._lock)
        # Before the activation function: a sigmoid can hide that a score depends on random weights.
        with padding_required(checkpoint):
            proof = prove(self._model, report, checkpoint, lambda: self._predict(PROBE_PAIRS, activation_fn=_unchanged))
        self.unused_weights = proof.unused_weights
        if model_kwargs.get("max_length") is not None:
            self._require_places(model_kwargs["max_length"])
        self.probe_scores = self.score(PROBE_PAIRS)
        self.versions = {library: version(library) for library in _LIBRARIES}

    def score(self, pairs: Sequence[tuple[str, str]], *, batch_size: int | None = None) -> NDArray[np.float32]:
        """Scores pairs of texts; see `langchain_localhf.engines.base.Scorer.score`."""
        if batch_size is not None:
            return self._predict(pairs, batch_size=batch_size)
        if len(pairs) == 1 or self._mark_as_text or self._model.device.type != "cpu":
            return self._predict(pairs)
        scores = np.empty((len(pairs), self.labels) if self.labels > 1 else len(pairs), dtype=np.float32)
        for batch in batches(self._token_counts(pairs)):
            scores[batch] = self._predict([pairs[index] for index in batch], batch_size=len(batch))
        return scores

    def count_tokens(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """How many tokens each pair has; see `langchain_localhf.engines.base.Scorer.count_tokens`."""
        prompt = self._model.prompts.get(self._model.default_prompt_name or "") or ""
        return self._counter.count([(prompt + first, second) for first, second in pairs])

    def traceable(self, *, eager_attention: bool = False) -> Traceable:
        """The whole model, ready to be compiled for another engine.

        Raises:
            UnsupportedModelError: It reads pairs in a way that a graph cannot.
        """
        with self._lock:
            return traceable_scorer(self._model, max_tokens=self.max_seq_length, eager_attention=eager_attention)

    def _require_places(self, max_length: int) -> None:
        """Checks that the model can read as many tokens as the user states; most know so many places and no more."""
        try:
            self._predict([("a " * max_length, "a")])
        except (IndexError, RuntimeError) as error:
            msg = f"the model cannot read max_length={max_length} tokens: {error}"
            raise InputError(msg, hint="leave max_length out, or state less; longer texts are cut off") from error

    def _predict(
        self,
        pairs: Sequence[tuple[str, str]],
        *,
        batch_size: int = 32,
        activation_fn: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> NDArray[np.float32]:
        inputs: list[Any] = [tuple(pair) for pair in pairs]
        if self._mark_as_text:
            inputs = [({"text": first}, {"text": second}) for first, second in inputs]
        # One call at a time: tokenizers keep their settings in themselves, and one forward pass already uses all cores.
        with self._lock:
            scores = self._model.predict(
                inputs, batch_size=batch_size, activation_fn=activation_fn, show_progress_bar=False
            )
        return np.asarray(scores, dtype=np.float32)

    def _token_counts(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """About how many tokens of each pair the model reads; they decide about batches only."""
        limit = self.max_seq_length or _ASSUMED_MAX_TOKENS
        cut = limit * _CHARACTERS_A_TOKEN
        return [min(count, limit) for count in self.count_tokens([(one[:cut], other[:cut]) for one, other in pairs])]


def _unchanged(logits: torch.Tensor) -> torch.Tensor:
    return logits


def _load(checkpoint: Checkpoint, model_kwargs: dict[str, Any]) -> CrossEncoder:
    settings = {**model_kwargs, "local_files_only": True}
    for located in ("revision", "cache_folder"):  # they named the folder, and have done their work
        settings.pop(located, None)
    try:
        model: CrossEncoder = CrossEncoder(str(checkpoint.folder), **settings)
    except torch.OutOfMemoryError:
        raise
    except (OSError, KeyError, RuntimeError, SafetensorError, ValueError) as error:
        msg = f"{checkpoint.folder} cannot be loaded: {error}"
        raise CheckpointError(
            msg, hint="check model_kwargs, if there are any; else pull or copy the model again"
        ) from error
    return model
