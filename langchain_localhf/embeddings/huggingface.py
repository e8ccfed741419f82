"""Embeddings for LangChain from a model that is already on this machine.

Drop-in for `langchain_huggingface.HuggingFaceEmbeddings` and the classes of `langchain_community`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from langchain_core.embeddings import Embeddings
from pydantic import Field

from langchain_localhf.embeddings.texts import checked_texts
from langchain_localhf.errors import CheckpointError, InputError
from langchain_localhf.loaded import LoadedEncoder
from langchain_localhf.loading import load_encoder
from langchain_localhf.model_holder import ModelHolder
from langchain_localhf.texts import check_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from langchain_localhf.engines.base import InputKind

_BATCH_DEPENDENT_PRECISIONS = ("int8", "uint8")
# Two names for one setting: whoever states one of them replaces both.
_PROMPT_SETTINGS = {"prompt", "prompt_name"}


class HuggingFaceEmbeddings(ModelHolder[LoadedEncoder], Embeddings):
    """Embeds texts with a sentence-transformers model from this machine; never downloads.

    ```python
    from langchain_localhf import HuggingFaceEmbeddings

    embeddings = HuggingFaceEmbeddings(model_name="all-MiniLM-L6-v2")
    vector = embeddings.embed_query("Where is the harbour?")
    ```

    The model is loaded, verified and proved sound when the object is made. Objects with equal settings share it.
    All methods are safe to call from many threads; the async ones run in a thread and never block the event loop.
    A pickled object holds its settings only, and loads the model again where it is unpickled.

    Raises:
        ModelReferenceError: The model's name cannot be read.
        ModelNotFoundError: The model is not on this machine; the hint is the command that brings it.
        IntegrityError: Its files are not those that were pulled.
        CheckpointError: The model is incomplete, unsafe, or would not run with its own weights.
        EngineError: Its engine is not installed, or there is no such device.
        InputError: The encode kwargs contradict each other, or would give one text several vectors.
        pydantic.ValidationError: A field is misspelt, or its value has the wrong type.
    """

    model_name: str = Field(default="sentence-transformers/all-mpnet-base-v2", alias="model", frozen=True)
    """A folder, `org/name`, `org/name@revision`, or a bare name from sentence-transformers."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict, frozen=True)
    """What `SentenceTransformer(...)` takes, such as `device`, `truncate_dim` or `trust_remote_code`; for the OpenVINO
    engine, also `ov_config`."""
    encode_kwargs: dict[str, Any] = Field(default_factory=dict)
    """What `SentenceTransformer.encode` takes, such as `batch_size` or `normalize_embeddings`."""
    query_encode_kwargs: dict[str, Any] = Field(default_factory=dict)
    """The same for queries; merged over `encode_kwargs`."""
    query_instruction: str | None = None
    """A prompt to put before every query, instead of the one that the model was saved with; empty for none."""
    embed_instruction: str | None = None
    """A prompt to put before every document, instead of the one that the model was saved with; empty for none."""
    pooling: Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"] | None = Field(
        default=None, frozen=True
    )
    """How a plain transformer checkpoint makes one vector of its token vectors; other models state it themselves."""
    multi_process: bool = False
    """Whether to spread each call over one pool of processes, which is kept until `close()`."""
    show_progress: bool = False
    """Whether to show a progress bar for each call."""

    def __init__(self, **fields: object) -> None:
        # Stated for type checkers, which would make one for each class that knows `model` and not `model_name`.
        super().__init__(**fields)

    def _load(self) -> LoadedEncoder:
        self._check_settings()
        return self._load_encoder(self.model_name, pooling=self.pooling)

    def _check_settings(self) -> None:
        self._settings("document")
        self._settings("query")

    def _load_encoder(self, name: str, *, pooling: str | None) -> LoadedEncoder:
        return load_encoder(
            name,
            cache_folder=self.cache_folder,
            pooling=pooling,
            backend=self.backend,
            model_kwargs=self.model_kwargs,
        )

    @property
    def fingerprint(self) -> str:
        """What identifies the vectors that this object makes of documents, as 64 hexadecimal digits.

        It depends on the model's files and on the settings that change a vector of a document; not on the model's
        name, the device, the batch size, or how queries are embedded.
        """
        return self._model.fingerprint(self._settings("document"))

    @property
    def dimension(self) -> int:
        """The length of a vector, with these settings."""
        settings = {**self._settings("document"), "show_progress_bar": False}
        return int(self._model.encoder.encode(["dimension"], kind="document", encode_kwargs=settings).shape[1])

    @property
    def max_seq_length(self) -> int | None:
        """How many tokens of a text are read; the rest is cut off. None if there is no limit."""
        return self._model.encoder.max_seq_length

    def embed_documents(self, texts: Iterable[str]) -> list[list[float]]:
        """Embeds documents, with the model's prompt for documents if it has one; a text given twice is embedded once.

        Args:
            texts: The texts, as a list or anything else that gives one text after the other, read once. None is
                changed before it reaches the model.

        Returns:
            One vector of `dimension` floats a text, in the order of the texts.

        Raises:
            InputError: An item is no text; the error names its index.
            EngineError: This object was closed.
        """
        return self._embed(checked_texts(texts), "document")

    def embed_query(self, text: str) -> list[float]:
        """Embeds a query, with the model's prompt for queries if it has one.

        Args:
            text: The text; not changed before it reaches the model.

        Returns:
            One vector of `dimension` floats.

        Raises:
            InputError: This is no text.
            EngineError: This object was closed.
        """
        check_text(text, "the query", None)
        return self._embed([text], "query")[0]

    def close(self) -> None:
        """Gives back the model's memory and stops its pool of processes, once no other object shares the model."""
        super().close()

    def _settings(self, kind: InputKind) -> dict[str, Any]:
        """What texts of this kind are encoded with."""
        settings = dict(self.encode_kwargs)
        if kind == "document":
            _refuse_two_prompts("embed_instruction", self.embed_instruction, "encode_kwargs", settings)
            instruction = self.embed_instruction
        else:
            _refuse_two_prompts(
                "query_instruction", self.query_instruction, "query_encode_kwargs", self.query_encode_kwargs
            )
            settings = _merged(settings, self.query_encode_kwargs)
            instruction = self.query_instruction
        if (precision := settings.get("precision")) in _BATCH_DEPENDENT_PRECISIONS:
            msg = (
                f"precision={precision!r} scales a vector by the others in its batch, so that one text has many vectors"
            )
            raise InputError(msg, hint='use "float32", "binary" or "ubinary"')
        return settings if instruction is None else _merged(settings, {"prompt": instruction})

    def _embed(self, texts: list[str], kind: InputKind) -> list[list[float]]:
        encoder = self._model.encoder
        if not texts:
            return []
        unique = list(dict.fromkeys(texts))
        vectors = encoder.encode(
            unique,
            kind=kind,
            encode_kwargs=self._settings(kind),
            show_progress=self.show_progress,
            multi_process=self.multi_process,
        )
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            index = texts.index(unique[int(np.argmin(finite))])
            msg = f"the model gives no finite vector for texts[{index}]"
            raise CheckpointError(msg, hint="if the model runs in half precision, load it in float32")
        rows: list[list[float]] = vectors.astype(float, copy=False).tolist()
        if len(unique) == len(texts):
            return rows
        row_of = dict(zip(unique, rows, strict=True))
        return [list(row_of[text]) for text in texts]


SentenceTransformerEmbeddings = HuggingFaceEmbeddings
"""The same class, by the name that langchain-community has for it, too."""


def _merged(settings: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with `more` put over them."""
    replaced = _PROMPT_SETTINGS if more.keys() & _PROMPT_SETTINGS else set()
    return {**{key: value for key, value in settings.items() if key not in replaced}, **more}


def _refuse_two_prompts(field: str, instruction: str | None, kwargs_field: str, settings: Mapping[str, Any]) -> None:
    if instruction is not None and settings.keys() & _PROMPT_SETTINGS:
        msg = f"{field} and a prompt in {kwargs_field} contradict each other"
        raise InputError(msg, hint="give one of them")
