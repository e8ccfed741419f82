"""Texts to vectors with sentence-transformers."""

from __future__ import annotations

import math
import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from tqdm import tqdm  # type: ignore[import-untyped]

from langchain_localhf.checkpoint.prompts import document_prompt_name
from langchain_localhf.engines.base import PROBE_TEXTS
from langchain_localhf.engines.batching import batches
from langchain_localhf.engines.torch.accounting import foreign_parts
from langchain_localhf.engines.torch.embedding_model import load_embedding_model, padded_to
from langchain_localhf.engines.torch.refusals import check_device, padding_required, refuse_pickle
from langchain_localhf.engines.torch.remote_code import code_for, trusted_code
from langchain_localhf.engines.torch.soundness import prove, recorded_loading
from langchain_localhf.engines.torch.token_counts import TokenCounter
from langchain_localhf.engines.torch.tracing import traceable
from langchain_localhf.errors import UnsupportedModelError
from langchain_localhf.store.offline import hub_offline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from langchain_localhf.checkpoint.checkpoint import Checkpoint
    from langchain_localhf.engines.base import InputKind
    from langchain_localhf.engines.torch.images import ImageReader
    from langchain_localhf.engines.traceable import Traceable
    from langchain_localhf.store.manifest import Manifest

# sentence-transformers knows by their names that these leave the instruction out of the mean; a folder has no name.
_PROMPT_NOT_POOLED = {"hkunlp/instructor-base", "hkunlp/instructor-large", "hkunlp/instructor-xl"}
# A text's first so many characters tell its cost; no tokenizer has much longer tokens on average.
_CHARACTERS_A_TOKEN = 8
_ASSUMED_MAX_TOKENS = 8192
_LIBRARIES = ("sentence-transformers", "transformers", "torch", "tokenizers")


class TorchEncoder:
    """An embedding model in sentence-transformers, loaded from a folder, offline, and proved sound.

    Args:
        checkpoint: The model's files, already checked to be complete and safe.
        name: The model's repository, or another name for messages.
        pooling: The pooling for a plain transformer checkpoint; None for a model that states its own.
        model_kwargs: Passed to `SentenceTransformer(...)` untouched; this object may change it.
        manifest: What the files should be, or None; code is compared with it before it runs.

    Raises:
        UnsafeModelError: The model needs code that the user does not trust, or is to be read as pickle.
        IncompleteModelError: The model needs code that is not here.
        IntegrityError: Its code is not what the manifest says.
        UninitializedWeightsError: The model would not run with the checkpoint's own weights.
        CheckpointError: The weights or the tokenizer are damaged.
        DeviceUnavailableError: There is no such device on this machine.
        UnsupportedModelError: The architecture is unknown, or the model's code does not run here.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        name: str,
        pooling: str | None,
        model_kwargs: dict[str, Any],
        manifest: Manifest | None = None,
    ) -> None:
        self._lock = threading.RLock()
        self._pool: dict[Any, Any] | None = None
        self._document_prompt_name = document_prompt_name(checkpoint, model_kwargs)
        check_device(model_kwargs.get("device"))
        refuse_pickle(model_kwargs.get("model_kwargs") or {})
        code = code_for(checkpoint, trusted=bool(model_kwargs.get("trust_remote_code")), name=name, manifest=manifest)
        with hub_offline(), recorded_loading() as report, trusted_code(code, name=name):
            trusted = {"trust_remote_code": code is not None}
            self._model = load_embedding_model(checkpoint, pooling, model_kwargs | trusted)
        if name in _PROMPT_NOT_POOLED:
            self._model.set_pooling_include_prompt(include_prompt=False)
        # A multimodal model takes a text that looks like an address for an image, and fetches it.
        self._mark_as_text = "image" in self._model.modalities
        self._images = _image_reader(checkpoint, model_kwargs)
        self.image_preparation = self._images.preparation if self._images else None
        limit = self._model.max_seq_length
        self.max_seq_length = None if limit is None or math.isinf(limit) else int(limit)
        self._counter = TokenCounter(self._model.tokenizer, lock=self._lock)
        with padding_required(checkpoint):
            proof = prove(self._model, report, checkpoint, self._probe)
        self.unused_weights = proof.unused_weights
        images = self._images.probed if self._images else 0
        self.probe_vectors = _of_documents(proof.probe_vectors, images=images)
        self.dimension = int(self.probe_vectors.shape[1])
        self.versions = {library: version(library) for library in _LIBRARIES}

    def _probe(self) -> NDArray[np.float32]:
        """Vectors of the probe texts as documents, and behind them of everything else that goes another way.

        Queries do where a router sends them elsewhere, and images where the model reads them.
        """
        kinds: tuple[InputKind, ...] = ("document",)
        if any(isinstance(module, Router) for module in self._model.children()):
            kinds = ("document", "query")
        vectors = [self.encode(PROBE_TEXTS, kind=kind, encode_kwargs={}) for kind in kinds]
        if self._images is not None:
            vectors.append(self.encode_images(self._images.probe(), encode_kwargs={}))
        return np.concatenate(vectors).astype(np.float32, copy=False)

    def encode(
        self,
        texts: Sequence[str],
        *,
        kind: InputKind,
        encode_kwargs: Mapping[str, Any],
        show_progress: bool = False,
        multi_process: bool = False,
    ) -> NDArray[np.number[Any]]:
        """Embeds texts; see `langchain_localhf.engines.base.Encoder.encode`."""
        settings = {"show_progress_bar": show_progress, **encode_kwargs}
        if kind == "document" and settings.get("prompt") is None and settings.get("prompt_name") is None:
            settings["prompt_name"] = self._document_prompt_name
        inputs: list[Any] = [{"text": text} for text in texts] if self._mark_as_text else list(texts)
        if multi_process:
            with self._lock:
                return self._encode(inputs, kind, settings | {"pool": self._processes()})
        if len(inputs) == 1 or self._mark_as_text or not self._may_choose_batches(settings):
            return self._encode(inputs, kind, settings)
        return self._encode_by_length(list(texts), kind, settings)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """How many tokens each text has; see `langchain_localhf.engines.base.Encoder.count_tokens`."""
        return self._counter.count(texts)

    def encode_images(self, pixels: NDArray[np.uint8], *, encode_kwargs: Mapping[str, Any]) -> NDArray[np.number[Any]]:
        """Embeds images; see `langchain_localhf.engines.base.Encoder.encode_images`.

        Raises:
            UnsupportedModelError: The model reads texts only.
        """
        if self._images is None:
            raise UnsupportedModelError("the model reads texts only", hint="use a CLIP or SigLIP model for images")
        batches_of_images = self._images.batches(pixels, encode_kwargs)
        return np.concatenate([self._encode(images, "document", settings) for images, settings in batches_of_images])

    def traceable(self, *, eager_attention: bool = False) -> Traceable:
        """The whole model, ready to be compiled; see `langchain_localhf.engines.base.Encoder.traceable`.

        Raises:
            UnsupportedModelError: It reads texts in a way that a graph cannot.
        """
        with self._lock:
            return traceable(
                self._model,
                max_tokens=self.max_seq_length,
                eager_attention=eager_attention,
                image_preparation=self.image_preparation,
                padded_to=padded_to(self._model),
            )

    def _encode(self, inputs: list[Any], kind: InputKind, settings: Mapping[str, Any]) -> NDArray[np.number[Any]]:
        # One call at a time: tokenizers keep their settings in themselves, and one forward pass already uses all cores.
        with self._lock:
            encode = self._model.encode_query if kind == "query" else self._model.encode_document
            return _as_matrix(encode(inputs, **settings))

    def _may_choose_batches(self, settings: Mapping[str, Any]) -> bool:
        """Whether the user leaves the batches to us, on the kind of device where we know better."""
        return self._model.device.type == "cpu" and not settings.keys() & {"batch_size", "pool", "device"}

    def _encode_by_length(self, texts: list[str], kind: InputKind, settings: dict[str, Any]) -> NDArray[np.number[Any]]:
        hidden = not settings.pop("show_progress_bar")
        rows: list[NDArray[np.number[Any]] | None] = [None] * len(texts)
        with tqdm(total=len(texts), desc="Embedding", unit=" texts", disable=hidden) as bar:
            for batch in batches(self._token_counts(texts)):
                chosen = {"batch_size": len(batch), "show_progress_bar": False}
                for index, row in zip(
                    batch, self._encode([texts[i] for i in batch], kind, settings | chosen), strict=True
                ):
                    rows[index] = row
                bar.update(len(batch))
        return np.stack([row for row in rows if row is not None])

    def _token_counts(self, texts: list[str]) -> list[int]:
        """About how many tokens of each text the model reads; they decide about batches only."""
        limit = self.max_seq_length or _ASSUMED_MAX_TOKENS
        return [
            min(count, limit) for count in self.count_tokens([text[: limit * _CHARACTERS_A_TOKEN] for text in texts])
        ]

    def _processes(self) -> dict[Any, Any]:
        if any(True for _ in foreign_parts(self._model)):
            msg = "a model that runs its own code cannot be spread over several processes, which do not know that code"
            raise UnsupportedModelError(msg, hint="leave multi_process out; threads already use every core")
        if self._pool is None:
            self._pool = self._model.start_multi_process_pool()
        return self._pool

    def close(self) -> None:
        """Stops the processes that `multi_process` started; they start again when they are needed."""
        with self._lock:
            if self._pool is not None:
                SentenceTransformer.stop_multi_process_pool(self._pool)
                self._pool = None

    def __del__(self) -> None:
        if getattr(self, "_pool", None) is not None:
            self.close()


def _of_documents(probed: NDArray[np.float32], *, images: int) -> NDArray[np.float32]:
    """What was probed, without the queries that may lie between texts and images."""
    return np.concatenate([probed[: len(PROBE_TEXTS)], probed[len(probed) - images :]])


def _image_reader(checkpoint: Checkpoint, model_kwargs: Mapping[str, Any]) -> ImageReader | None:
    if checkpoint.image_folder is None:
        return None
    from langchain_localhf.engines.torch.images import ImageReader  # noqa: PLC0415 - Pillow is needed for images only

    stated = model_kwargs.get("processor_kwargs") or model_kwargs.get("tokenizer_kwargs") or {}
    return ImageReader(checkpoint.image_folder, processor_kwargs=stated)


def _as_matrix(vectors: object) -> NDArray[np.number[Any]]:
    if isinstance(vectors, torch.Tensor):
        return vectors.detach().cpu().float().numpy()
    if isinstance(vectors, list) and vectors and isinstance(vectors[0], torch.Tensor) and vectors[0].ndim == 1:
        return torch.stack(vectors).cpu().float().numpy()
    if isinstance(vectors, np.ndarray):
        return vectors
    msg = "these encode_kwargs do not give one vector a text"
    raise UnsupportedModelError(msg, hint='leave out "output_value"')
