"""The same model for Chroma's own client, written into a collection so that it reopens with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from chromadb.api.types import Documents, EmbeddingFunction
from chromadb.utils.embedding_functions import register_embedding_function

from langchain_localhf.embeddings import HuggingFaceEmbeddings
from langchain_localhf.errors import FingerprintMismatchError, InputError

if TYPE_CHECKING:
    from chromadb.api.types import Embeddings as ChromaEmbeddings
    from chromadb.api.types import Space
    from langchain_core.embeddings import Embeddings

_VERSION = 1
_SETTINGS = (
    "cache_folder",
    "model_kwargs",
    "encode_kwargs",
    "query_encode_kwargs",
    "query_instruction",
    "embed_instruction",
    "pooling",
    "backend",
    "text_model_name",  # of CLIPEmbeddings
)
# A collection travels: the device and how it is tuned belong to a machine, a token to a person, and whether to run a
# model's code is for the program to decide, not for a file it opens. None of them changes a vector.
_NOT_RECORDED = {"device", "device_map", "ov_config", "token", "trust_remote_code", "use_auth_token"}


class LocalHFEmbeddingFunction(EmbeddingFunction[Documents]):
    """A local Hugging Face model as an embedding function of Chroma's own client; never downloads.

    A collection that was made with it remembers the model, its settings and its fingerprint.
    `client.get_collection(name)` reopens it with the model that is on this machine, if `langchain_localhf.vectorstores`
    was imported, and loads it when the first text is embedded. Not remembered: the device, tokens, and
    `trust_remote_code`.

    Args:
        embeddings: The model and its settings.

    Raises:
        InputError: A setting is no JSON value, so that a collection cannot remember it.
    """

    def __init__(self, embeddings: HuggingFaceEmbeddings) -> None:
        self._config = _config(embeddings, embeddings.fingerprint, settings=_recordable_settings(embeddings))
        self._embeddings: Embeddings | None = embeddings

    @classmethod
    def recording(cls, embeddings: Embeddings, fingerprint: str) -> LocalHFEmbeddingFunction:
        """The same for any embeddings; if they cannot be made again from a collection, that says why.

        Without a function in the collection, Chroma's client would take its default, which downloads another model.
        """
        settings, obstacle = None, None
        if isinstance(embeddings, HuggingFaceEmbeddings):
            try:
                settings = _recordable_settings(embeddings)
            except InputError as error:
                obstacle = error.message
        else:
            obstacle = f"{type(embeddings).__name__} is no HuggingFaceEmbeddings"
        return cls._with(_config(embeddings, fingerprint, settings=settings, obstacle=obstacle), embeddings)

    @classmethod
    def _with(cls, config: dict[str, Any], embeddings: Embeddings | None) -> LocalHFEmbeddingFunction:
        function = cls.__new__(cls)
        function._config, function._embeddings = config, embeddings  # noqa: SLF001 - its own
        return function

    def __call__(self, input: Documents) -> ChromaEmbeddings:  # noqa: A002 - chromadb checks the parameter's name
        """Embeds documents.

        Args:
            input: The texts.

        Returns:
            One vector a text, each of shape `(dimension,)`.

        Raises:
            ModelNotFoundError: The model is not on this machine; the hint is the command that brings it.
            FingerprintMismatchError: The model of this name on this machine is not the one that was remembered.
            InputError: An item is no text, or the embeddings cannot be made from what was remembered.
        """
        return [np.asarray(row, dtype=np.float32) for row in self._opened.embed_documents(list(input))]

    def embed_query(self, input: Documents) -> ChromaEmbeddings:  # noqa: A002 - as above
        """Embeds queries, with the model's prompt for queries if it has one; the rest is as for documents."""
        return [np.asarray(self._opened.embed_query(text), dtype=np.float32) for text in input]

    @property
    def _opened(self) -> Embeddings:
        if self._embeddings is None:
            self._embeddings = _open(json.dumps(self._config, sort_keys=True))
        return self._embeddings

    @staticmethod
    def name() -> str:
        """The name under which chromadb knows this class, in every collection; it never changes."""
        return "localhf"

    def default_space(self) -> Space:
        """The distance of a new collection for which none is stated: Chroma's own, as without this function."""
        return "l2"

    def get_config(self) -> dict[str, Any]:
        """What a collection remembers, as JSON values."""
        # Chroma would take an error here for a reason to fall back to its downloading default; nothing here can fail.
        return cast("dict[str, Any]", json.loads(json.dumps(self._config)))

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> LocalHFEmbeddingFunction:
        """The function that a collection remembers. It loads nothing and checks nothing before it is used.

        Chroma builds one whenever it reads a configuration, and would hide the type of an error.
        """
        return LocalHFEmbeddingFunction._with(config, None)

    @staticmethod
    def validate_config(config: dict[str, Any]) -> None:
        """Checks what a collection remembers.

        Raises:
            InputError: This version of the package cannot read it.
        """
        if config.get("version") != _VERSION or not config.keys() >= {"model_name", "fingerprint", "settings"}:
            msg = f"cannot read the settings of the embedding function {config!r}"
            raise InputError(msg, hint="pip install --upgrade langchain-localhf")

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Refuses to give a collection another model.

        Raises:
            FingerprintMismatchError: The fingerprints differ.
        """
        if old_config["fingerprint"] != new_config["fingerprint"]:
            raise _mismatch(old_config, new_config["model_name"], new_config["fingerprint"])


register_embedding_function(LocalHFEmbeddingFunction)  # type: ignore[no-untyped-call]


# Chroma makes a new function for every query by text; the model has to outlive it. Few, because models are large.
@lru_cache(maxsize=4)
def _open(config_json: str) -> HuggingFaceEmbeddings:
    config = json.loads(config_json)
    LocalHFEmbeddingFunction.validate_config(config)
    if config["settings"] is None:
        msg = f"{config['model_name']} cannot be opened from the collection alone: {config.get('obstacle')}"
        hint = "open the collection with langchain_localhf.vectorstores.Chroma and the embeddings that filled it"
        raise InputError(msg, hint=hint)
    embeddings = _embeddings(config["model_name"], config["settings"])
    if embeddings.fingerprint != config["fingerprint"]:
        raise _mismatch(config, config["model_name"], embeddings.fingerprint)
    return embeddings


def _embeddings(model_name: str, settings: dict[str, Any]) -> HuggingFaceEmbeddings:
    if "text_model_name" not in settings:
        # Also for a dual encoder: its fingerprint and its vectors of texts are the same without the images.
        return HuggingFaceEmbeddings(model_name=model_name, **settings)
    from langchain_localhf.embeddings.clip import CLIPEmbeddings  # noqa: PLC0415 - needs Pillow; texts do not

    return CLIPEmbeddings(model_name=model_name, **settings)


def _mismatch(config: dict[str, Any], model_name: str, given: str) -> FingerprintMismatchError:
    stored = config["fingerprint"]
    msg = (
        f"the collection was filled by {config['model_name']} (fingerprint {stored[:12]}), "
        f"and the model here is {model_name} (fingerprint {given[:12]})"
    )
    hint = "use the files that filled it, or embed the documents again into a new collection"
    return FingerprintMismatchError(msg, stored=stored, given=given, hint=hint)


def _config(
    embeddings: object, fingerprint: str, *, settings: dict[str, Any] | None, obstacle: str | None = None
) -> dict[str, Any]:
    config = {
        "version": _VERSION,
        "model_name": str(getattr(embeddings, "model_name", type(embeddings).__name__)),
        "fingerprint": fingerprint,
        "settings": settings,
    }
    return config | {"obstacle": obstacle} if obstacle else config


def _recordable_settings(embeddings: HuggingFaceEmbeddings) -> dict[str, Any]:
    fields = type(embeddings).model_fields
    stated = {field: getattr(embeddings, field) for field in _SETTINGS if field in fields}
    return {
        field: _recordable(value, field)
        for field, value in stated.items()
        if value != fields[field].get_default(call_default_factory=True)
    }


def _recordable(value: object, place: str) -> object:
    if isinstance(value, Mapping):
        items = {key: item for key, item in value.items() if key not in _NOT_RECORDED}
        return {key: _recordable(item, f"{place}[{key!r}]") for key, item in items.items()}
    if isinstance(value, list | tuple):
        return [_recordable(item, f"{place}[{index}]") for index, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float):
        return value
    msg = f"{place} is {type(value).__name__} {value}, which a collection cannot remember"
    raise InputError(msg, hint='state it as text if the model takes that, such as "float16" for a dtype')
