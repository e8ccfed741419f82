"""Images into a collection: checked, embedded together, and stored with their files."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from langchain_localhf.embeddings import HuggingFaceEmbeddings
from langchain_localhf.errors import InputError
from langchain_localhf.vectorstores import records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import chromadb

# Files of some megabytes each lie in memory together.
_AT_ONCE = 100


def store_images(
    uris: Iterable[Any],
    metadatas: Iterable[Mapping[str, Any] | None] | None,
    ids: Iterable[str | None] | None,
    *,
    collection: chromadb.Collection,
    embeddings: Any,  # noqa: ANN401 - LangChain has no type for embeddings of images
    read: Callable[[str], str],
    at_once: int,
) -> list[str]:
    """Embeds images and stores them; nothing is stored before all of them are embedded.

    Args:
        uris: The images.
        metadatas: One for each.
        ids: One for each; None for a random one.
        collection: The collection, which these embeddings may write.
        embeddings: What makes the vectors.
        read: Makes the document of an image, for embeddings that are not of this package.
        at_once: How many Chroma stores together at most.

    Returns:
        The id of every image, in their order.

    Raises:
        InputError: An image, an id or metadata cannot be used, or there are not as many of each.
    """
    files, document = _files(uris, embeddings, read)
    named = [name or str(uuid.uuid4()) for name in (ids if ids is not None else [None] * len(files))]
    stated = list(metadatas if metadatas is not None else [None] * len(files))
    if not len(files) == len(named) == len(stated):
        msg = f"there are {len(files)} images, {len(stated)} metadatas and {len(named)} ids"
        raise InputError(msg, hint="give one of each for every image, or leave metadatas and ids out")
    checked: list[Any] = [one.metadata or None for one in records.from_texts([""] * len(files), stated, named)]
    vectors = embeddings.embed_image(files)
    size = min(_AT_ONCE, at_once)
    for start in range(0, len(files), size):
        part = slice(start, start + size)
        documents = [document(file, index) for index, file in enumerate(files[part], start)]
        collection.upsert(ids=named[part], embeddings=vectors[part], metadatas=checked[part], documents=documents)
    return named


def _files(
    uris: Iterable[Any], embeddings: object, read: Callable[[str], str]
) -> tuple[list[Any], Callable[[Any, int], str]]:
    """The images as a list, and what makes a document of one."""
    if not isinstance(embeddings, HuggingFaceEmbeddings):  # what others can read, only they know
        return list(uris), lambda uri, _: read(uri)
    from langchain_localhf.embeddings.images import checked_files, file_in_base64  # noqa: PLC0415 - needs Pillow

    return checked_files(uris), file_in_base64
