"""Embeddings for LangChain from a model that is already on this machine.

Drop-in for `langchain_huggingface.HuggingFaceEmbeddings` and the classes of `langchain_community`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from langchain_core.embeddings import Embeddings
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from langchain_localhf.errors import CheckpointError, EngineError, InputError, LocalHFError
from langchain_localhf.loading import load_encoder

if TYPE_CHECKING:
    from langchain_localhf.engines.base import InputKind
    from langchain_localhf.loaded import LoadedEncoder

_BATCH_DEPENDENT_PRECISIONS = ("int8", "uint8")
# Two names for one setting: whoever states one of them replaces both.
_PROMPT_SETTINGS = {"prompt", "prompt_name"}


class HuggingFaceEmbeddings(BaseModel, Embeddings):
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

    model_config = ConfigDict(extra="forbid", populate_by_name=True, protected_namespaces=())

    # What the loaded model was made with is frozen: a later change would not reach it.
    model_name: str = Field(default="sentence-transformers/all-mpnet-base-v2", alias="model", frozen=True)
    """A folder, `org/name`, `org/name@revision`, or a bare name from sentence-transformers."""
    cache_folder: str | None = Field(default=None, frozen=True)
    """A Hugging Face cache to look into before the others."""
    model_kwargs: dict[str, Any] = Field(default_factory=dict, frozen=True)
    """What `SentenceTransformer(...)` takes, such as `device`, `truncate_dim` or `trust_remote_code`; for the OpenVINO
    engine, also `ov_config`."""
    backend: str = Field(default="auto", frozen=True)
    """The engine: `torch`, `openvino` for the graph that `localhf compile` made, or `auto` for the graph if there is
    one, openvino is installed, and the settings ask for nothing that it cannot do."""
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

    _loaded: LoadedEncoder | None = PrivateAttr(default=None)

    def __init__(self, **fields: object) -> None:
        # Not a pydantic validator: that would turn the package's own errors into a ValidationError.
        super().__init__(**fields)
        self._settings("document")
        self._settings("query")
        self._load()

    def _load(self) -> None:
        self._loaded = load_encoder(
            self.model_name,
            cache_folder=self.cache_folder,
            pooling=self.pooling,
            backend=self.backend,
            model_kwargs=self.model_kwargs,
        )

    @classmethod
    def model_validate(cls, obj: object, **options: Any) -> Self:  # noqa: ANN401 - as in pydantic
        """Makes an object from a dictionary of fields; with the constructor's errors, not wrapped by pydantic."""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            causes = [detail.get("ctx", {}).get("error") for detail in error.errors()]
            raise next((cause for cause in causes if isinstance(cause, LocalHFError)), error) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy that shares the model; changed fields are validated, and load another model if they ask for one."""
        if not update:
            return super().model_copy(deep=deep)
        fields = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**(copy.deepcopy(fields) if deep else fields), **update})

    def __getstate__(self) -> dict[Any, Any]:
        """Everything but the loaded model, which another process loads for itself."""
        return {**super().__getstate__(), "__pydantic_private__": {"_loaded": None}}

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
        return self._embed(_checked_texts(texts), "document")

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
        _check_text(text, "the query", None)
        return self._embed([text], "query")[0]

    def close(self) -> None:
        """Gives back the model's memory and stops its pool of processes, once no other object shares the model."""
        self._loaded = None

    @property
    def _model(self) -> LoadedEncoder:
        if self._loaded is None:
            msg = f"these embeddings of {self.model_name} were closed"
            raise EngineError(msg, hint="make a new object; close() gives the memory back for good")
        return self._loaded

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


def _merged(settings: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, with `more` put over them."""
    replaced = _PROMPT_SETTINGS if more.keys() & _PROMPT_SETTINGS else set()
    return {**{key: value for key, value in settings.items() if key not in replaced}, **more}


def _refuse_two_prompts(field: str, instruction: str | None, kwargs_field: str, settings: Mapping[str, Any]) -> None:
    if instruction is not None and settings.keys() & _PROMPT_SETTINGS:
        msg = f"{field} and a prompt in {kwargs_field} contradict each other"
        raise InputError(msg, hint="give one of them")


def _checked_texts(texts: object) -> list[str]:
    if isinstance(texts, (str, bytes, Mapping)) or not isinstance(texts, Iterable):
        msg = f"embed_documents takes a list of texts, not {type(texts).__name__}"
        raise InputError(msg, hint="put a single text into a list, or use embed_query")
    checked = list(texts)  # read once: a generator has nothing left the second time
    for index, text in enumerate(checked):
        _check_text(text, f"texts[{index}]", index)
    return checked


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
