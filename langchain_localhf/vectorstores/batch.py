"""One batch into a collection: embedded where needed, and stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_localhf.vectorstores.records import Record, same_metadata
from langchain_localhf.vectorstores.stamp import Stamp

if TYPE_CHECKING:
    from collections.abc import Iterable

    import chromadb
    from langchain_core.embeddings import Embeddings


def store(batch: Iterable[Record], collection: chromadb.Collection, embeddings: Embeddings) -> None:
    """Makes a collection hold the documents of a batch as they are, and embeds no text whose vector is there.

    Args:
        batch: The documents; those with equal ids are equal.
        collection: The collection, which these embeddings may write.
        embeddings: What makes the vectors.
    """
    records = {record.id: record for record in batch}
    stored = _stored(collection, list(records))
    # Only a stamp shows that the vectors that are there are this model's.
    trusted = Stamp.read(collection) is not None
    to_embed, to_update = [], []
    for record in records.values():
        text, metadata = stored.get(record.id, (None, {}))
        if not trusted or text != record.text:
            to_embed.append(record)
        elif not same_metadata(metadata, record.metadata):
            to_update.append(record)
    if to_embed:
        texts = [record.text for record in to_embed]
        vectors: Any = embeddings.embed_documents(texts)
        ids = [record.id for record in to_embed]
        collection.upsert(ids=ids, embeddings=vectors, documents=texts, metadatas=_metadatas(to_embed, stored))
    if to_update:
        collection.update(ids=[record.id for record in to_update], metadatas=_metadatas(to_update, stored))


def _stored(collection: chromadb.Collection, ids: list[str]) -> dict[str, tuple[str | None, dict[str, Any]]]:
    """What is there: text and metadata, by id."""
    found = collection.get(ids=ids, include=["documents", "metadatas"])
    rows = zip(found["ids"], found["documents"] or (), found["metadatas"] or (), strict=True)
    return {record_id: (text, dict(metadata or {})) for record_id, text, metadata in rows}


def _metadatas(records: list[Record], stored: dict[str, tuple[str | None, dict[str, Any]]]) -> Any:  # noqa: ANN401
    # Chroma merges metadata into what is there; None removes a key, so that no old one is left over.
    olds = (stored.get(record.id, (None, {}))[1] for record in records)
    return [{**dict.fromkeys(old), **record.metadata} or None for old, record in zip(olds, records, strict=True)]
