"""The stamp: what a collection says about the model that filled it, and the guard that reads it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from chromadb.api.collection_configuration import UpdateCollectionConfiguration

from langchain_localhf.embeddings import HuggingFaceEmbeddings
from langchain_localhf.errors import FingerprintMismatchError
from langchain_localhf.vectorstores.embedding_function import LocalHFEmbeddingFunction

if TYPE_CHECKING:
    import chromadb
    from langchain_core.embeddings import Embeddings
    from numpy.typing import NDArray

FINGERPRINT_KEY = "localhf.fingerprint"
MODEL_KEY = "localhf.model"

MIN_COSINE = 0.99
# Chroma's usual distance depends on the lengths of vectors too, so normalised vectors are not those of the plain model.
MAX_LENGTH_RATIO = 1.01
_FIXED_AT_CREATION = "hnsw:space"
_REFILL = "embed the documents again into a new collection"


@dataclass(frozen=True)
class Stamp:
    """The model that filled a collection.

    Attributes:
        fingerprint: What identifies its vectors.
        model: Its name, for people.
    """

    fingerprint: str
    model: str

    @classmethod
    def of(cls, embeddings: Embeddings | None) -> Stamp | None:
        """The stamp of embeddings; None if they have no fingerprint."""
        fingerprint = getattr(embeddings, "fingerprint", None)
        return cls(fingerprint, name_of(embeddings)) if isinstance(fingerprint, str) else None

    @classmethod
    def read(cls, collection: chromadb.Collection) -> Stamp | None:
        """The stamp of a collection; None if it has none."""
        metadata = collection.metadata or {}
        fingerprint = metadata.get(FINGERPRINT_KEY)
        return cls(str(fingerprint), str(metadata.get(MODEL_KEY, "an unnamed model"))) if fingerprint else None

    @property
    def metadata(self) -> dict[str, Any]:
        """The stamp as it stands in the metadata of a collection."""
        return {FINGERPRINT_KEY: self.fingerprint, MODEL_KEY: self.model}

    def __str__(self) -> str:
        return f"{self.model} (fingerprint {self.fingerprint[:12]})"


def name_of(embeddings: object) -> str:
    """The name of a model, for people."""
    return str(getattr(embeddings, "model_name", None) or type(embeddings).__name__)


def guard(collection: chromadb.Collection, embeddings: Embeddings | None, *, adopt_unstamped: bool) -> None:
    """Lets embeddings pass that made the vectors of a collection, and stamps it if it has no stamp yet.

    Args:
        collection: The collection.
        embeddings: What will read and write it; None for what reads by id or by vector only.
        adopt_unstamped: Whether a filled collection without a stamp is compared with the model, and stamped.

    Raises:
        FingerprintMismatchError: Another model filled the collection, or nothing shows that this one did.
    """
    stored, given = Stamp.read(collection), Stamp.of(embeddings)
    if embeddings is None or (stored is None and given is None):
        return
    if given is None:
        msg = (
            f"collection {collection.name!r} was filled by {stored}, and is opened with {name_of(embeddings)}, "
            "which has no fingerprint: nothing shows that its vectors are the same"
        )
        hint = f"open it with HuggingFaceEmbeddings of {stored.model if stored else 'that model'}, or {_REFILL}"
        raise _mismatch(msg, collection, stored, given, hint)
    if stored is None:
        _stamp_unstamped(collection, embeddings, given, adopt=adopt_unstamped)
    elif stored.fingerprint != given.fingerprint:
        raise _other_model(collection, stored, given)


def _other_model(collection: chromadb.Collection, stored: Stamp, given: Stamp) -> FingerprintMismatchError:
    msg = f"collection {collection.name!r} was filled by {stored}, and is opened with {given}"
    if stored.model == given.model:
        msg += "; the names are equal, so the model's files or the settings for documents differ"
        return _mismatch(msg, collection, stored, given, f"use the files and settings that filled it, or {_REFILL}")
    msg += "; the vectors of one say nothing about those of the other"
    return _mismatch(msg, collection, stored, given, f"open it with {stored.model}, or {_REFILL}")


def _stamp_unstamped(collection: chromadb.Collection, embeddings: Embeddings, given: Stamp, *, adopt: bool) -> None:
    count = collection.count()
    if count and not adopt:
        msg = f"collection {collection.name!r} holds {count} documents, and nothing says which model filled it"
        hint = f"if it was {given.model}, pass adopt_unstamped=True, which compares a few vectors; else {_REFILL}"
        raise _mismatch(msg, collection, None, given, hint)
    if count and (difference := _difference(collection, embeddings, count)):
        msg = f"collection {collection.name!r} was not filled by {given}: {difference}"
        raise _mismatch(msg, collection, None, given, f"open it with the model that filled it, or {_REFILL}")
    _write(collection, embeddings, given)


def _difference(collection: chromadb.Collection, embeddings: Embeddings, count: int) -> str:
    """How the first, the middle and the last document differ from what the embeddings make of them; empty if not."""
    texts: list[str] = []
    stored: list[NDArray[Any]] = []
    for offset in sorted({0, count // 2, count - 1}):
        found = collection.get(limit=1, offset=offset, include=["documents", "embeddings"])
        for text, vector in zip(found["documents"] or (), _rows(found["embeddings"]), strict=True):
            if text is not None:
                texts.append(text)
                stored.append(np.asarray(vector, dtype=float))
    if not texts:
        return "it holds no texts that could be embedded again and compared"
    for index, (old, row) in enumerate(zip(stored, _embedded(texts, embeddings), strict=True)):
        new = np.asarray(row, dtype=float)
        if old.shape != new.shape:
            return f"its vectors have {old.size} dimensions, not {new.size}"
        lengths = float(np.linalg.norm(old)), float(np.linalg.norm(new))
        cosine = float(old @ new) / (lengths[0] * lengths[1] or 1.0)
        if cosine < MIN_COSINE:
            return f"the stored vector of {texts[index][:40]!r} has cosine {cosine:.3f} with the model's own"
        if max(lengths) > MAX_LENGTH_RATIO * min(lengths):
            return f"its vectors have length {lengths[0]:.3g}, not {lengths[1]:.3g}; is normalize_embeddings the same?"
    return ""


def _embedded(documents: list[str], embeddings: Embeddings) -> list[list[float]]:
    """The vectors of stored documents; pictures lie there in base64."""
    rows = embeddings.embed_documents(documents)
    if isinstance(embeddings, HuggingFaceEmbeddings) and hasattr(embeddings, "embed_image"):
        from langchain_localhf.embeddings.images import is_picture_in_base64  # noqa: PLC0415 - needs Pillow

        for index, document in enumerate(documents):
            if is_picture_in_base64(document):
                [rows[index]] = embeddings.embed_image([document])
    return rows


def _rows(vectors: Any) -> Any:  # noqa: ANN401 - a list of arrays, an array, or None: chromadb's own type says less
    return () if vectors is None else vectors


def _write(collection: chromadb.Collection, embeddings: Embeddings, stamp: Stamp) -> None:
    # `modify` replaces all metadata. It refuses the distance, even unchanged; the index keeps it in its configuration.
    kept = {key: value for key, value in (collection.metadata or {}).items() if key != _FIXED_AT_CREATION}
    configuration = UpdateCollectionConfiguration()
    configured = collection.configuration_json.get("embedding_function")
    if configured is None or configured.get("type") == "legacy":  # else others may rely on the one that is there
        configuration["embedding_function"] = LocalHFEmbeddingFunction.recording(embeddings, stamp.fingerprint)
    with warnings.catch_warnings():
        # chromadb warns of the missing function while it replaces it.
        warnings.filterwarnings("ignore", "legacy embedding function config", DeprecationWarning)
        collection.modify(metadata={**kept, **stamp.metadata}, configuration=configuration or None)


def _mismatch(
    msg: str, collection: chromadb.Collection, stored: Stamp | None, given: Stamp | None, hint: str
) -> FingerprintMismatchError:
    return FingerprintMismatchError(
        msg,
        collection=collection.name,
        stored=stored.fingerprint if stored else None,
        given=given.fingerprint if given else None,
        hint=hint,
    )
