"""Embeddings for LangChain from a model that is already on this machine.

Drop-in for `langchain_huggingface.HuggingFaceEmbeddings` and the classes of `langchain_community`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from langchain_core.embeddings import Embeddings
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from langchain_localhf.errors import CheckpointError, EngineError, InputError
from langchain_localhf.loading import LoadedEncoder, load_encoder

if TYPE_CHECKING:
    from langchain_localhf.engines.base import InputKind

_BATCH_DEPENDENT_PRECISIONS = ("int8", "uint8")


class HuggingFaceEmbeddings(BaseModel, Embeddings):
    """Embeds texts with a sentence-transformers model from this machine; never downloads.

    ```python
    from langchain_localhf import HuggingFaceEmbeddings

    embeddings = HuggingFaceEmbeddings(model_name="all-MiniLM-L6-v2")
    vector = embeddings.embed_query("Where is the harbour?")
    ```

    The model is loaded, verified and proved sound when the object is made. Objects with equal settings share it.
    All methods are safe to call from many threads; the async ones run in a thread and never block the event loop.

    Raises:
        ModelNotFoundError: The model is not on this machine; the hint is the command that brings it.
        CheckpointError: The model is incomplete, unsafe, or would not run with its own weights.
        IntegrityError: Its files are not those that were pulled.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True, protected_namespaces=())

    model_name: str = Field(default="sentence-transformers/all-mpnet-base-v2", alias="model")
    """A folder, `org/name`, `org/name@revision`, or a bare name from sentence-transformers."""
    cache_folder: str | None = None
    """A Hugging Face cache to look into before the others."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """What `SentenceTransformer(...)` takes, such as `device`, `truncate_dim` or `trust_remote_code`."""
    encode_kwargs: dict[str, Any] = Field(default_factory=dict)
    """What `SentenceTransformer.encode` takes, such as `batch_size` or `normalize_embeddings`."""
    query_encode_kwargs: dict[str, Any] = Field(default_factory=dict)
    """The same for queries; merged over `encode_kwargs`."""
    query_instruction: str | None = None
    """A prompt to put before every query, instead of the one that the model was saved with."""
    embed_instruction: str | None = None
    """A prompt to put before every document, instead of the one that the model was saved with."""
    pooling: Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"] | None = None
    """How a plain transformer checkpoint makes one vector of its token vectors; other models state it themselves."""
    multi_process: bool = False
    """Whether to spread each call over one pool of processes, which is kept until `close()`."""
    show_progress: bool = False
    """Whether to show a progress bar for each call."""

    _loaded: LoadedEncoder | None = PrivateAttr(default=None)

    def __init__(self, **fields: Any) -> None:
        # Not a pydantic validator: that would turn the package's own errors into a ValidationError.
        super().__init__(**fields)
        self._refuse_contradictions()
        self._load()

    def _refuse_contradictions(self) -> None:
        for settings, instruction, field in (
            (self.encode_kwargs, self.embed_instruction, "embed_instruction"),
            (self.query_encode_kwargs, self.query_instruction, "query_instruction"),
        ):
            if (precision := settings.get("precision")) in _BATCH_DEPENDENT_PRECISIONS:
                msg = f"precision={precision!r} scales a vector by the others in its batch, so that one text has many vectors"
                raise InputError(msg, hint='use "float32", "binary" or "ubinary"')
            if instruction is not None and settings.keys() & {"prompt", "prompt_name"}:
                msg = f"{field} and a prompt in the encode kwargs contradict each other"
                raise InputError(msg, hint="give one of them")

    def _load(self) -> None:
        self._loaded = load_encoder(
            self.model_name, cache_folder=self.cache_folder, pooling=self.pooling, model_kwargs=self.model_kwargs
        )

    def __getstate__(self) -> dict[Any, Any]:
        """Everything but the loaded model, which another process loads for itself."""
        state = super().__getstate__()
        return {**state, "__pydantic_private__": {"_loaded": None}}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Restores the settings and loads the model again."""
        super().__setstate__(state)
        self._load()

    @property
    def fingerprint(self) -> str:
        """What identifies the vectors that this object makes of documents, as 64 hexadecimal digits.

        It depends on the model's files and on the settings that change a vector of a document; not on the model's
        name, the device, the batch size, or how queries are embedded.
        """
        return self._model.fingerprint(self._document_settings)

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return len(self.embed_documents(["dimension"])[0])

    @property
    def max_seq_length(self) -> int | None:
        """How many tokens of a text are read; the rest is cut off. None if there is no limit."""
        return self._model.encoder.max_seq_length

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embeds documents, with the model's prompt for documents if it has one; a text given twice is embedded once.

        Args:
            texts: The texts; none is changed before it reaches the model.

        Returns:
            One vector of `dimension` floats a text, in the order of the texts.

        Raises:
            InputError: An item is no text; the error names its index.
        """
        _check_texts(texts)
        return self._embed(texts, "document", self._document_settings)

    def embed_query(self, text: str) -> list[float]:
        """Embeds a query, with the model's prompt for queries if it has one.

        Args:
            text: The text; not changed before it reaches the model.

        Returns:
            One vector of `dimension` floats.

        Raises:
            InputError: This is no text.
        """
        _check_text(text, "the query", None)
        return self._embed([text], "query", self._query_settings)[0]

    def close(self) -> None:
        """Gives back the model's memory, unless another object shares it, and stops the pool of processes."""
        self._loaded = None

    @property
    def _model(self) -> LoadedEncoder:
        if self._loaded is None:
            msg = f"these embeddings of {self.model_name} were closed"
            raise EngineError(msg, hint="make a new object; close() gives the memory back for good")
        return self._loaded

    @property
    def _document_settings(self) -> dict[str, Any]:
        instruction = {} if self.embed_instruction is None else {"prompt": self.embed_instruction}
        return {**self.encode_kwargs, **instruction}

    @property
    def _query_settings(self) -> dict[str, Any]:
        instruction = {} if self.query_instruction is None else {"prompt": self.query_instruction}
        return {**self.encode_kwargs, **self.query_encode_kwargs, **instruction}

    def _embed(self, texts: list[str], kind: InputKind, settings: dict[str, Any]) -> list[list[float]]:
        if not texts:
            return []
        unique = list(dict.fromkeys(texts))
        vectors = self._model.encoder.encode(
            unique,
            kind=kind,
            encode_kwargs=settings,
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


def _check_texts(texts: object) -> None:
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        msg = f"embed_documents takes a list of texts, not {type(texts).__name__}"
        raise InputError(msg, hint="put a single text into a list, or use embed_query")
    for index, text in enumerate(texts):
        _check_text(text, f"texts[{index}]", index)


def _check_text(text: object, label: str, index: int | None) -> None:
    if not isinstance(text, str):
        msg = f"{label} is {type(text).__name__}; expected str"
        raise InputError(msg, index=index, hint="leave it out, or turn it into a text")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        msg = f"{label} holds a lone surrogate at position {error.start}, which is no character"
        hint = 'repair the text where it was read: text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")'
        raise InputError(msg, index=index, hint=hint) from None
