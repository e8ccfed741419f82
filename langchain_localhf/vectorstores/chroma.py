"""`langchain_chroma.Chroma` that knows which model filled a collection, and adds in batches that survive."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Self, cast

import langchain_chroma
from langchain_core.documents import Document
from langchain_core.runnables.config import run_in_executor
from pydantic import BaseModel
from tqdm import tqdm  # type: ignore[import-untyped]

from langchain_localhf.errors import InputError
from langchain_localhf.vectorstores import records
from langchain_localhf.vectorstores.batch import store
from langchain_localhf.vectorstores.embedding_function import LocalHFEmbeddingFunction
from langchain_localhf.vectorstores.pictures import store_images
from langchain_localhf.vectorstores.stamp import Stamp, guard

if TYPE_CHECKING:
    import os

    from chromadb.api import ClientAPI
    from chromadb.api.collection_configuration import CreateCollectionConfiguration
    from chromadb.config import Settings
    from langchain_core.embeddings import Embeddings

    from langchain_localhf.vectorstores.records import Record

# Enough texts for the model to sort by length and waste little on padding; few enough that an interrupted run loses
# seconds of work, and that every look-up stays far below SQLite's limit on the number of variables.
BATCH_SIZE = 1000


class Chroma(langchain_chroma.Chroma):
    """`langchain_chroma.Chroma`, guarded: a collection is read and written only by the model that filled it.

    ```python
    from langchain_localhf import HuggingFaceEmbeddings
    from langchain_localhf.vectorstores import Chroma

    store = Chroma("notes", HuggingFaceEmbeddings(model_name="all-MiniLM-L6-v2"), persist_directory="db")
    store.add_texts(["the ship sails at dawn", "tax filings are due"])
    ```

    A new collection is stamped with the fingerprint of the embeddings, and remembers the model for Chroma's own client
    too (`LocalHFEmbeddingFunction`). Embeddings without a fingerprint work as in `langchain_chroma`, on collections
    without a stamp.

    Args:
        embedding_function: The embeddings. None opens any collection, to read by id or by vector.
        adopt_unstamped: Whether to stamp a collection that holds documents and no stamp, after embedding up to three
            of them again and comparing the vectors.
        collection_name: As in `langchain_chroma`, and so are all the others.

    Raises:
        FingerprintMismatchError: Another model filled the collection, or nothing shows that this one did.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the arguments of langchain_chroma
        self,
        collection_name: str = langchain_chroma.Chroma._LANGCHAIN_DEFAULT_COLLECTION_NAME,  # noqa: SLF001
        embedding_function: Embeddings | None = None,
        persist_directory: str | None = None,
        host: str | None = None,
        port: int | None = None,
        headers: dict[str, str] | None = None,
        chroma_cloud_api_key: str | None = None,
        tenant: str | None = None,
        database: str | None = None,
        client_settings: Settings | None = None,
        collection_metadata: dict[str, Any] | None = None,
        collection_configuration: CreateCollectionConfiguration | None = None,
        client: ClientAPI | None = None,
        relevance_score_fn: Callable[[float], float] | None = None,
        create_collection_if_not_exists: bool | None = True,  # noqa: FBT001, FBT002
        *,
        ssl: bool = False,
        adopt_unstamped: bool = False,
    ) -> None:
        stamp = Stamp.of(embedding_function)
        super().__init__(
            collection_name=collection_name,
            embedding_function=embedding_function,
            persist_directory=persist_directory,
            host=host,
            port=port,
            headers=headers,
            chroma_cloud_api_key=chroma_cloud_api_key,
            tenant=tenant,
            database=database,
            client_settings=client_settings,
            collection_metadata={**(collection_metadata or {}), **stamp.metadata} if stamp else collection_metadata,
            collection_configuration=_configuration(collection_configuration, embedding_function, stamp),
            client=client,
            relevance_score_fn=relevance_score_fn,
            create_collection_if_not_exists=create_collection_if_not_exists,
            ssl=ssl,
        )
        self._adopt_unstamped = adopt_unstamped
        self._guard()

    def _guard(self) -> None:
        # Also for a new collection: another process may have created it an instant before.
        guard(self._collection, self._embedding_function, adopt_unstamped=self._adopt_unstamped)

    def _required_embeddings(self) -> Embeddings:
        if self._embedding_function is None:
            msg = f"collection {self._collection.name!r} was opened without embeddings, to be read by id or by vector"
            raise InputError(msg, hint="open it with embedding_function=HuggingFaceEmbeddings(...)")
        return self._embedding_function

    def add_texts(  # type: ignore[override]  # a misspelt argument is an error, not ignored
        self,
        texts: Iterable[str],
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        ids: Sequence[str | None] | None = None,
        *,
        batch_size: int = BATCH_SIZE,
    ) -> list[str]:
        """Embeds texts and stores them, batch by batch, so that an interrupted call can be made again and goes on.

        A text that is stored with the same id, the same text and the same metadata is not embedded again; if only its
        metadata differ, they are replaced. Everything is checked before the first text is embedded; what comes from a
        generator, before its batch is.

        Args:
            texts: The texts; a generator is read one batch at a time.
            metadatas: One for each text; None or `{}` for no metadata.
            ids: One for each text. None stands for an id derived from the text and its metadata
                (`langchain_localhf.vectorstores.records.content_id`), so that equal documents are stored once.
            batch_size: How many texts are embedded and stored together, at most; Chroma's own limit holds too.

        Returns:
            The id of every text, in their order.

        Raises:
            InputError: An item cannot be used, an id is given twice, or there are not as many of each.
            FingerprintMismatchError: The embeddings were changed since the collection was opened.
        """
        return self._add(records.from_texts(texts, metadatas, ids), _count(texts), batch_size)

    def add_documents(  # type: ignore[override]  # as above
        self, documents: Iterable[Document], ids: Sequence[str | None] | None = None, *, batch_size: int = BATCH_SIZE
    ) -> list[str]:
        """Embeds documents and stores them; see `add_texts`.

        Args:
            documents: The documents, with or without ids; a generator is read one batch at a time.
            ids: One for each document, instead of those in the documents.
            batch_size: How many are embedded and stored together, at most.

        Returns:
            The id of every document, in their order.

        Raises:
            InputError: An item cannot be used, an id is given twice, or there are not as many of each.
            FingerprintMismatchError: The embeddings were changed since the collection was opened.
        """
        return self._add(records.from_documents(documents, ids), _count(documents), batch_size)

    def _add(self, checked: Iterator[Record], count: int | None, batch_size: int) -> list[str]:
        embeddings, show_progress = _without_bar(self._required_embeddings())
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}", hint="use 1 or more, or leave it out")
        self._guard()
        size = min(batch_size, self._client.get_max_batch_size())
        ids: list[str] = []
        hidden = not show_progress or count == 0
        with tqdm(total=count, desc="Adding documents", unit=" documents", disable=hidden) as bar:
            for batch in records.batches(checked, size):
                store(batch, self._collection, embeddings)
                ids += [record.id for record in batch]
                bar.update(len(batch))
        return ids

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings | None = None,
        metadatas: Sequence[Mapping[str, Any] | None] | None = None,
        ids: Sequence[str | None] | None = None,
        *settings: Any,  # noqa: ANN401
        **named_settings: Any,  # noqa: ANN401
    ) -> Self:
        """Opens or creates a collection and adds texts; see `add_texts`.

        Args:
            texts: The texts; a generator is read one batch at a time.
            embedding: The embeddings.
            metadatas: One for each text.
            ids: One for each text.
            settings: The other settings of the store, in the order of `langchain_chroma.Chroma.from_texts`.
            named_settings: The same by name, and `adopt_unstamped`.

        Raises:
            FingerprintMismatchError: Another model filled the collection, or nothing shows that this one did.
            InputError: An item cannot be used, an id is given twice, or there are not as many of each.
        """
        filled = cast("Self", super().from_texts([], embedding, None, None, *settings, **named_settings))
        filled.add_texts(texts, metadatas, ids)
        return filled

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | None = None,
        ids: Sequence[str | None] | None = None,
        *settings: Any,  # noqa: ANN401
        **named_settings: Any,  # noqa: ANN401
    ) -> Self:
        """Opens or creates a collection and adds documents; see `add_documents` and `from_texts`.

        Raises:
            FingerprintMismatchError: Another model filled the collection, or nothing shows that this one did.
            InputError: An item cannot be used, an id is given twice, or there are not as many of each.
        """
        filled = cast("Self", super().from_texts([], embedding, None, None, *settings, **named_settings))
        filled.add_documents(documents, ids)
        return filled

    @classmethod
    async def afrom_documents(
        cls,
        documents: Iterable[Document],
        embedding: Embeddings | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> Self:
        """As `from_documents`, in a thread."""
        return await run_in_executor(None, cls.from_documents, documents, embedding, **settings)

    def similarity_search_with_score(self, query: str, *args: Any, **kwargs: Any) -> list[tuple[Document, float]]:  # noqa: ANN401
        """As in `langchain_chroma`.

        Raises:
            InputError: There are no embeddings; Chroma would download its default model, and ask that.
        """
        self._required_embeddings()
        return super().similarity_search_with_score(query, *args, **kwargs)

    def similarity_search_with_vectors(self, query: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """As in `langchain_chroma`.

        Raises:
            InputError: There are no embeddings; as above.
        """
        self._required_embeddings()
        return super().similarity_search_with_vectors(query, *args, **kwargs)

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Returns the documents with these ids, in any order; also those without metadata."""
        found = self.get(ids=list(ids))
        rows = zip(found["ids"], found["documents"], found["metadatas"], strict=True)
        return [Document(text, metadata=data or {}, id=record_id) for record_id, text, data in rows if text is not None]

    def add_images(
        self,
        uris: Iterable[str | os.PathLike[str] | bytes],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[str | None] | None = None,
    ) -> list[str]:
        """As in `langchain_chroma`, for embeddings with `embed_image`, and for any number of images.

        Ids and metadata are checked before an image is read, and all images are embedded before the first is stored,
        with its file in base64 as the document.

        Args:
            uris: The images: paths, and for `CLIPEmbeddings` also the bytes of files, or these in base64.
            metadatas: One for each image; None or `{}` for no metadata.
            ids: One for each image; None for a random one.

        Raises:
            InputError: The embeddings have no `embed_image` (Chroma would embed the encoded file as if it were a text),
                an image, an id or metadata cannot be used, or there are not as many of each.
            FingerprintMismatchError: The embeddings were changed since the collection was opened.
        """
        embeddings = self._image_embeddings()
        self._guard()
        return store_images(
            uris,
            metadatas,
            ids,
            collection=self._collection,
            embeddings=embeddings,
            read=self.encode_image,
            at_once=self._client.get_max_batch_size(),
        )

    def similarity_search_by_image_with_relevance_score(self, uri: str, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """As it is meant in `langchain_chroma`, whose own asks with a list of vectors for one, and fails.

        Raises:
            InputError: The embeddings have no `embed_image`.
        """
        [vector] = self._image_embeddings().embed_image([uri])
        return self.similarity_search_by_vector_with_relevance_scores(vector, *args, **kwargs)

    def _image_embeddings(self) -> Any:  # noqa: ANN401 - LangChain has no type for embeddings of images
        if not hasattr(self._embedding_function, "embed_image"):
            msg = f"{type(self._embedding_function).__name__} cannot embed images"
            raise InputError(msg, hint="use embeddings with a method embed_image, such as CLIPEmbeddings")
        return self._embedding_function

    def reset_collection(self) -> None:
        """Deletes the collection and creates it again, empty and stamped."""
        super().reset_collection()
        self._guard()

    def fork(self, new_name: str) -> Self:
        """As in `langchain_chroma`, guarded too. Only Chroma's cloud can fork."""
        forked = self._collection.fork(new_name=new_name)
        return type(self)(forked.name, self._embedding_function, client=self._client)


def _configuration(
    given: CreateCollectionConfiguration | None, embeddings: Embeddings | None, stamp: Stamp | None
) -> CreateCollectionConfiguration | None:
    # chromadb writes defaults into the dictionaries it is given; the user's stay as they are.
    own: Any = {key: dict(value) if isinstance(value, dict) else value for key, value in (given or {}).items()}
    if stamp and embeddings and own.get("embedding_function") is None:
        own["embedding_function"] = LocalHFEmbeddingFunction.recording(embeddings, stamp.fingerprint)
    return own or given


def _count(items: Iterable[Any]) -> int | None:
    return len(items) if isinstance(items, Sized) else None


def _without_bar(embeddings: Embeddings) -> tuple[Embeddings, bool]:
    """The embeddings without a bar of their own for each batch, and whether they wanted one."""
    if not getattr(embeddings, "show_progress", False) or not isinstance(embeddings, BaseModel):
        return embeddings, False
    quiet = copy.copy(embeddings)  # shares the loaded model
    quiet.__dict__["show_progress"] = False
    return quiet, True
