"""Adding to a collection, and asking it."""

from __future__ import annotations

import asyncio
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

import langchain_chroma
import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, index

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import InputError
from langchain_localhf.vectorstores import Chroma
from langchain_localhf.vectorstores.records import content_id

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import chromadb

TEXTS = ["the weather is nice", "tax filings are due", "the ship sails at dawn", "winter in the city", "red blue green"]
DOCUMENTS = [Document(text, metadata={"page": page}) for page, text in enumerate(TEXTS)]


@pytest.fixture
def store(client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> Chroma:
    """An empty store."""
    return Chroma("docs", embeddings, client=client)


def contents(store: Chroma) -> dict[str, tuple[str, dict[str, Any] | None]]:
    """Text and metadata of what the store holds, by id."""
    found = store.get()
    return dict(zip(found["ids"], zip(found["documents"], found["metadatas"], strict=True), strict=True))


class TestBatches:
    """Embedding and storing go hand in hand."""

    def test_at_most_the_maximum_of_the_client(
        self, store: Chroma, encoded: list[list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A batch that Chroma would refuse is never made, and the ids come back in order."""
        monkeypatch.setattr(store._client, "get_max_batch_size", lambda: 2)
        ids = store.add_documents(DOCUMENTS)
        assert encoded == [TEXTS[:2], TEXTS[2:4], TEXTS[4:]]
        assert contents(store) == {
            record_id: (document.page_content, document.metadata)
            for record_id, document in zip(ids, DOCUMENTS, strict=True)
        }

    def test_at_most_what_was_asked_for(self, store: Chroma, encoded: list[list[str]]) -> None:
        """`batch_size` makes them smaller."""
        store.add_texts(TEXTS, batch_size=3)
        store.add_documents(DOCUMENTS, batch_size=4)
        assert [len(texts) for texts in encoded] == [3, 2, 4, 1]

    def test_thousand_by_default(self, store: Chroma, monkeypatch: pytest.MonkeyPatch) -> None:
        """The model gets enough texts to sort, and an interrupted run loses little."""
        sizes = []
        embeddings: Any = DeterministicFakeEmbedding(size=32)

        class Spy:
            fingerprint = store.embeddings.fingerprint

            def embed_documents(self, texts: list[str]) -> list[list[float]]:
                sizes.append(len(texts))
                return embeddings.embed_documents(texts)

        monkeypatch.setattr(store, "_embedding_function", Spy())
        assert len(set(store.add_texts(f"text {n}" for n in range(2100)))) == 2100
        assert sizes == [1000, 1000, 100]

    @pytest.mark.parametrize("size", [0, -1])
    def test_nonsense_size(self, store: Chroma, size: int) -> None:
        """It would add nothing, in silence."""
        with pytest.raises(InputError, match=f"batch_size is {size}"):
            store.add_texts(TEXTS, batch_size=size)

    def test_interrupt_keeps_what_is_done(
        self, store: Chroma, encoded: list[list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C in the third batch keeps two; the next call embeds the rest only."""
        encode = store.embeddings._model.encoder.encode

        def interrupted(texts: list[str], **settings: Any) -> Any:
            if texts == TEXTS[4:]:
                raise KeyboardInterrupt
            return encode(texts, **settings)

        with monkeypatch.context() as patch:
            patch.setattr(store.embeddings._model.encoder, "encode", interrupted)
            with pytest.raises(KeyboardInterrupt):
                store.add_documents(DOCUMENTS, batch_size=2)
        assert [text for text, _ in contents(store).values()] == TEXTS[:4]
        encoded.clear()
        store.add_documents(DOCUMENTS, batch_size=2)
        assert encoded == [TEXTS[4:]]
        assert len(contents(store)) == 5

    def test_generator_is_read_batch_by_batch(self, store: Chroma, encoded: list[list[str]]) -> None:
        """At most one batch is in memory: the first is stored before the second is read."""
        stored = []

        def documents() -> Iterator[Document]:
            for document in DOCUMENTS:
                stored.append(store._collection.count())
                yield document

        ids = store.add_documents(documents(), batch_size=2)
        assert stored == [0, 0, 2, 2, 4]
        assert ids == [content_id(document.page_content, document.metadata) for document in DOCUMENTS]
        assert len(encoded) == 3

    def test_nothing_is_embedded_when_anything_is_wrong(self, store: Chroma, encoded: list[list[str]]) -> None:
        """A list is checked to its end before it costs anything."""
        for wrong in ({"ids": ["a"]}, {"ids": list("abcda")}, {"metadatas": [{}] * 4}, {"metadatas": [{}] * 4 + [7]}):
            with pytest.raises(InputError):
                store.add_texts(TEXTS, batch_size=1, **wrong)
        assert encoded == []
        assert contents(store) == {}

    def test_misspelt_argument(self, store: Chroma) -> None:
        """Upstream ignores it, and the metadata with it."""
        with pytest.raises(TypeError, match="metadata"):
            store.add_texts(TEXTS, metadata=[{}] * 5)

    def test_nothing_to_add(self, store: Chroma, encoded: list[list[str]]) -> None:
        """An empty list is no error."""
        assert store.add_texts([]) == store.add_documents([]) == store.add_documents(iter([])) == []
        assert encoded == []


class TestProgress:
    """One bar over everything."""

    @pytest.mark.parametrize("lazy", [False, True], ids=["list", "generator"])
    def test_one_bar(
        self, client: chromadb.ClientAPI, tiny: Path, capsys: pytest.CaptureFixture[str], *, lazy: bool
    ) -> None:
        """It counts texts, and sentence-transformers shows none beside it."""
        store = Chroma("docs", HuggingFaceEmbeddings(model_name=str(tiny), show_progress=True), client=client)
        capsys.readouterr()
        store.add_texts(iter(TEXTS) if lazy else TEXTS, batch_size=2)
        shown = capsys.readouterr().err
        assert "Batches" not in shown
        assert shown.count("\n") == 1
        assert "Adding documents" in shown
        assert (" 5 documents [" if lazy else "5/5") in shown.rpartition("\r")[2]
        assert store.embeddings.show_progress

    def test_none_by_default(self, store: Chroma, capsys: pytest.CaptureFixture[str]) -> None:
        """Nobody asked for one."""
        capsys.readouterr()
        store.add_texts(TEXTS)
        assert capsys.readouterr().err == ""

    def test_none_for_nothing(self, client: chromadb.ClientAPI, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """`from_texts` shows one bar too, not another one for opening the collection."""
        showing = HuggingFaceEmbeddings(model_name=str(tiny), show_progress=True)
        capsys.readouterr()
        Chroma.from_texts(TEXTS, showing, client=client, collection_name="docs")
        assert capsys.readouterr().err.count("\n") == 1


class TestAddingAgain:
    """What is there is not embedded again."""

    def test_same_documents(self, store: Chroma, encoded: list[list[str]]) -> None:
        """Not without ids, and not with them; the ids are the same."""
        ids = store.add_documents(DOCUMENTS)
        named = store.add_texts(TEXTS, ids=list("abcde"))
        encoded.clear()
        assert store.add_documents(DOCUMENTS) == ids
        assert store.add_texts(TEXTS, ids=list("abcde")) == named
        assert store.add_texts(reversed(TEXTS), [d.metadata for d in reversed(DOCUMENTS)]) == ids[::-1]
        assert encoded == []
        assert store._collection.count() == 10

    def test_another_process(
        self, client: chromadb.ClientAPI, store: Chroma, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The constructors that fill do not embed again either."""
        Chroma.from_documents(DOCUMENTS, store.embeddings, client=client, collection_name="docs")
        again = HuggingFaceEmbeddings(model_name=str(tiny))
        monkeypatch.setattr(again._model.encoder, "encode", None)
        Chroma.from_documents(DOCUMENTS, again, client=client, collection_name="docs")
        assert store._collection.count() == 5

    def test_only_what_is_new(self, store: Chroma, encoded: list[list[str]]) -> None:
        """A batch of old and new ones costs the new ones."""
        store.add_texts(TEXTS[1:3])
        encoded.clear()
        store.add_texts(TEXTS)
        assert encoded == [[TEXTS[0], TEXTS[3], TEXTS[4]]]

    def test_equal_documents_in_one_call(self, store: Chroma, encoded: list[list[str]]) -> None:
        """Stored once, within a batch and beyond it, and both get the id."""
        ids = store.add_texts([*TEXTS[:2], TEXTS[0], TEXTS[1]], batch_size=3)
        assert ids[:2] == ids[2:]
        assert encoded == [TEXTS[:2]]
        assert store._collection.count() == 2

    def test_other_metadata_are_replaced_without_embedding(self, store: Chroma, encoded: list[list[str]]) -> None:
        """What was given is what is there; upstream keeps the keys of before."""
        store.add_texts(TEXTS[:3], [{"a": 1, "b": 2}, {"a": 1}, {"a": 1}], ids=list("xyz"))
        encoded.clear()
        store.add_texts(TEXTS[:3], [{"b": 2.5, "c": [1, 2]}, {}, {"a": True}], ids=list("xyz"))
        assert encoded == []
        assert contents(store) == {
            "x": (TEXTS[0], {"b": 2.5, "c": [1, 2]}),
            "y": (TEXTS[1], None),
            "z": (TEXTS[2], {"a": True}),
        }
        assert contents(store)["z"][1] is not None
        assert type(contents(store)["z"][1]["a"]) is bool

    def test_other_text_is_embedded(self, store: Chroma, encoded: list[list[str]]) -> None:
        """The vector, the text and the metadata under the id are the new ones."""
        store.add_texts(TEXTS[:2], [{"a": 1}, {"a": 1}], ids=["x", "y"])
        encoded.clear()
        store.add_texts([TEXTS[2], TEXTS[1]], [{"b": 2}, {"a": 1}], ids=["x", "y"])
        assert encoded == [[TEXTS[2]]]
        assert contents(store) == {"x": (TEXTS[2], {"b": 2}), "y": (TEXTS[1], {"a": 1})}
        assert store.similarity_search_with_score(TEXTS[2], k=1)[0][1] == pytest.approx(0, abs=1e-5)

    def test_without_fingerprint_always_embeds(self, client: chromadb.ClientAPI) -> None:
        """Nothing shows that the vectors that are there are these embeddings'."""
        first = Chroma.from_texts(TEXTS, DeterministicFakeEmbedding(size=6), client=client, collection_name="docs")
        before = first.get(include=["embeddings"])["embeddings"]

        class Others(DeterministicFakeEmbedding):
            def _get_seed(self, text: str) -> int:
                return super()._get_seed(text[::-1])

        Chroma.from_texts(TEXTS, Others(size=6), client=client, collection_name="docs")
        after = first.get(include=["embeddings"])["embeddings"]
        assert len(after) == len(TEXTS)
        assert (before != after).all()

    def test_documents_are_not_changed(self, store: Chroma) -> None:
        """The user's objects stay as they are."""
        documents = [Document("red", metadata={"a": None, "b": 1})]
        store.add_documents(documents)
        assert documents == [Document("red", metadata={"a": None, "b": 1})]

    def test_indexing_of_langchain(self, store: Chroma, encoded: list[list[str]]) -> None:
        """`langchain_core.indexing` passes ids and a batch size."""
        manager = InMemoryRecordManager("docs")
        manager.create_schema()
        result = index(DOCUMENTS, manager, store, batch_size=2, key_encoder="sha256")
        assert (result["num_added"], [len(texts) for texts in encoded]) == (5, [2, 2, 1])


class TestWays:
    """The same by every method."""

    def test_constructor_of_langchain_chroma(self) -> None:
        """Every argument is there, in its place, with its default; one is new."""
        ours, upstream = (
            {name: (parameter.kind, parameter.default) for name, parameter in signature(store).parameters.items()}
            for store in (Chroma, langchain_chroma.Chroma)
        )
        assert list(ours.items()) == [*upstream.items(), ("adopt_unstamped", (Parameter.KEYWORD_ONLY, False))]

    def test_constructors_take_all_settings(self, tmp_path: Path, embeddings: HuggingFaceEmbeddings) -> None:
        """By name, and by position as in `langchain_chroma`."""
        folder = str(tmp_path / "db")
        named = Chroma.from_texts(
            TEXTS,
            embeddings,
            ids=list("abcde"),
            collection_name="named",
            persist_directory=folder,
            adopt_unstamped=True,
        )
        placed = Chroma.from_documents(DOCUMENTS, embeddings, None, "placed", folder)
        assert type(named) is type(placed) is Chroma
        assert sorted(contents(named)) == list("abcde")
        assert Chroma("placed", embeddings, folder)._collection.count() == 5

    def test_generators(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """Upstream reads one twice, and finds nothing the second time."""
        store = Chroma.from_documents(iter(DOCUMENTS), embeddings, client=client, collection_name="docs")
        store.add_texts((text for text in ["red"]), ({"n": n} for n in range(1)))
        assert [metadata for _, metadata in contents(store).values()] == [{"page": n} for n in range(5)] + [{"n": 0}]

    def test_async(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """The async methods are the same, also for generators."""

        async def fill() -> tuple[list[str], list[str], list[Document]]:
            store = await Chroma.afrom_documents(iter(DOCUMENTS[:2]), embeddings, client=client, collection_name="docs")
            again = await Chroma.afrom_texts(["red"], embeddings, ids=["r"], client=client, collection_name="docs")
            ids = await again.aadd_documents(iter(DOCUMENTS))
            texts = await store.aadd_texts(TEXTS, ids=list("abcde"))
            return ids, texts, await store.asimilarity_search(TEXTS[4], k=2)

        ids, texts, found = asyncio.run(fill())
        assert ids == [content_id(document.page_content, document.metadata) for document in DOCUMENTS]
        assert texts == list("abcde")
        assert {document.id for document in found} == {"e", ids[4]}
        assert client.get_collection("docs").count() == 11

    def test_fork_is_guarded(self, store: Chroma, monkeypatch: pytest.MonkeyPatch) -> None:
        """Chroma's cloud alone can fork; what comes back is of this class."""
        store.add_texts(TEXTS)

        def fork(new_name: str) -> chromadb.Collection:
            return store._client.create_collection(new_name, metadata=store._collection.metadata)

        monkeypatch.setattr(store._collection, "fork", fork)
        forked = store.fork("copy")
        assert type(forked) is Chroma
        assert (forked._collection.name, forked.embeddings) == ("copy", store.embeddings)

    def test_images(self, store: Chroma, tmp_path: Path) -> None:
        """Embeddings of texts would embed the bytes of the file as text; those of images get it."""
        image = tmp_path / "image.png"
        image.write_bytes(b"\x89PNG")
        with pytest.raises(InputError, match="HuggingFaceEmbeddings cannot embed images"):
            store.add_images([str(image)])

        class Images(DeterministicFakeEmbedding):
            def embed_image(self, uris: list[str]) -> list[list[float]]:
                return self.embed_documents(uris)

        pictures = Chroma("pictures", Images(size=32), client=store._client)
        assert len(pictures.add_images([str(image)])) == pictures._collection.count() == 1


class TestAsking:
    """Searching is as in `langchain_chroma`."""

    def test_documents_without_metadata_by_id(self, store: Chroma) -> None:
        """Upstream cannot make a document of them."""
        ids = store.add_texts(TEXTS[:2], [{"n": 1}, {}])
        found = {document.id: document for document in store.get_by_ids([*ids, "missing"])}
        assert found == {
            ids[0]: Document(TEXTS[0], metadata={"n": 1}, id=ids[0]),
            ids[1]: Document(TEXTS[1], id=ids[1]),
        }

    def test_vectors_without_texts_by_id(self, store: Chroma, embeddings: HuggingFaceEmbeddings) -> None:
        """A record without a text is no document."""
        vector: Any = embeddings.embed_documents(["red"])
        store._collection.upsert(ids=["bare"], embeddings=vector)
        assert store.get_by_ids(["bare"]) == []

    @pytest.mark.parametrize(
        "search",
        [
            {"search_type": "similarity", "search_kwargs": {"k": 2, "filter": {"page": {"$gt": 1}}}},
            {"search_type": "mmr", "search_kwargs": {"k": 3, "fetch_k": 5}},
            {"search_type": "similarity_score_threshold", "search_kwargs": {"score_threshold": 0.1}},
        ],
        ids=["similarity", "mmr", "threshold"],
    )
    def test_retrievers(
        self, client: chromadb.ClientAPI, store: Chroma, embeddings: HuggingFaceEmbeddings, search: dict[str, Any]
    ) -> None:
        """Every kind of retriever finds what upstream's finds."""
        ids = store.add_documents(DOCUMENTS)
        upstream = langchain_chroma.Chroma("upstream", embeddings, client=client)
        upstream.add_documents(DOCUMENTS, ids=ids)
        found = store.as_retriever(**search).invoke("the ship sails")
        assert found == upstream.as_retriever(**search).invoke("the ship sails") != []

    def test_vectors(self, store: Chroma, embeddings: HuggingFaceEmbeddings) -> None:
        """The vectors that come back are the model's."""
        store.add_texts(TEXTS)
        (document, vector), *_ = store.similarity_search_with_vectors(TEXTS[0], k=1)
        assert document.page_content == TEXTS[0]
        assert vector == pytest.approx(embeddings.embed_documents(TEXTS[:1])[0], abs=1e-6)
