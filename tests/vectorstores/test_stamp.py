"""Which model may read and write which collection."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import langchain_chroma
import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from support import checkpoints

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import FingerprintMismatchError, InputError
from langchain_localhf.vectorstores import Chroma

if TYPE_CHECKING:
    from pathlib import Path

    import chromadb

TEXTS = ["the weather is nice", "tax filings are due", "the ship sails at dawn", "winter in the city"]
UNKNOWN = DeterministicFakeEmbedding(size=checkpoints.DIMENSION)


def fill_unstamped(client: chromadb.ClientAPI, embeddings: Any, name: str = "docs", **settings: Any) -> None:
    """A collection as `langchain_chroma` makes it."""
    langchain_chroma.Chroma(name, embeddings, client=client, **settings).add_texts(TEXTS)


class TestNewCollection:
    """What a collection that is made here says."""

    def test_is_stamped(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """It names the model and its fingerprint, beside the user's metadata, whose dictionary stays as it is."""
        mine = {"owner": "harbour"}
        Chroma("docs", embeddings, client=client, collection_metadata=mine)
        assert client.get_collection("docs").metadata == {
            "owner": "harbour",
            "localhf.fingerprint": embeddings.fingerprint,
            "localhf.model": embeddings.model_name,
        }
        assert mine == {"owner": "harbour"}

    def test_keeps_the_index_settings(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """The index is what was asked for, and the user's dictionary stays as it is."""
        mine: Any = {"hnsw": {"ef_search": 50}}
        Chroma("docs", embeddings, client=client, collection_configuration=mine)
        index = client.get_collection("docs").configuration_json["hnsw"]
        assert (index["ef_search"], index["space"]) == (50, "l2")
        assert mine == {"hnsw": {"ef_search": 50}}

    @pytest.mark.parametrize("metadata", [None, {"hnsw:space": "cosine"}, {"hnsw:space": "ip"}])
    def test_has_the_distance_of_langchain_chroma(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings, metadata: dict[str, str] | None
    ) -> None:
        """The distance is the one that `langchain_chroma` would have taken, and so are the scores."""
        upstream = langchain_chroma.Chroma("upstream", embeddings, client=client, collection_metadata=metadata)
        ours = Chroma("ours", embeddings, client=client, collection_metadata=metadata)
        for store in (upstream, ours):
            store.add_texts(TEXTS)
        expected, scores = (
            [score for _, score in store.similarity_search_with_relevance_scores("harbour", k=4)]
            for store in (upstream, ours)
        )
        np.testing.assert_allclose(scores, expected, atol=1e-6)

    def test_of_embeddings_without_fingerprint_is_as_upstream(self, client: chromadb.ClientAPI) -> None:
        """Embeddings of another kind work unguarded, and leave no stamp."""
        Chroma.from_texts(TEXTS, UNKNOWN, client=client, collection_name="docs")
        assert client.get_collection("docs").metadata is None
        reopened = Chroma("docs", DeterministicFakeEmbedding(size=checkpoints.DIMENSION), client=client)
        assert reopened.similarity_search(TEXTS[1], k=1)[0].page_content == TEXTS[1]


class TestReopen:
    """Who gets a stamped collection."""

    def test_same_bytes_elsewhere_pass(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings, tmp_path: Path
    ) -> None:
        """The name does not count, the files do."""
        Chroma.from_texts(TEXTS, embeddings, client=client, collection_name="docs")
        moved = HuggingFaceEmbeddings(model_name=str(shutil.copytree(embeddings.model_name, tmp_path / "moved")))
        store = Chroma("docs", moved, client=client)
        assert store.similarity_search(TEXTS[2], k=1)[0].page_content == TEXTS[2]

    @pytest.mark.parametrize("create", [True, False])
    def test_other_model_of_equal_dimension_is_refused(
        self,
        client: chromadb.ClientAPI,
        embeddings: HuggingFaceEmbeddings,
        other: HuggingFaceEmbeddings,
        *,
        create: bool,
    ) -> None:
        """Chroma would take it; the error names both models and the way out, and nothing has changed."""
        Chroma.from_texts(TEXTS, embeddings, client=client, collection_name="docs")
        with pytest.raises(FingerprintMismatchError) as caught:
            Chroma("docs", other, client=client, create_collection_if_not_exists=create)
        error = caught.value
        assert (error.collection, error.stored, error.given) == ("docs", embeddings.fingerprint, other.fingerprint)
        assert error.message == (
            f"collection 'docs' was filled by {embeddings.model_name} (fingerprint {embeddings.fingerprint[:12]}), and "
            f"is opened with {other.model_name} (fingerprint {other.fingerprint[:12]}); the vectors of one say nothing "
            "about those of the other"
        )
        assert error.hint == (
            f"open it with {embeddings.model_name}, or embed the documents again into a new collection"
        )
        assert client.get_collection("docs").metadata["localhf.fingerprint"] == embeddings.fingerprint
        assert client.get_collection("docs").count() == len(TEXTS)

    def test_from_texts_is_refused_before_anything_is_added(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings, other: HuggingFaceEmbeddings
    ) -> None:
        """So are the constructors that fill."""
        Chroma.from_texts(TEXTS, embeddings, client=client, collection_name="docs")
        with pytest.raises(FingerprintMismatchError):
            Chroma.from_texts(["red"], other, client=client, collection_name="docs")
        assert client.get_collection("docs").count() == len(TEXTS)

    def test_equal_names_say_what_else_differs(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings
    ) -> None:
        """The same name with another prompt for documents is another model."""
        Chroma("docs", embeddings, client=client)
        changed = HuggingFaceEmbeddings(model_name=embeddings.model_name, embed_instruction="passage: ")
        with pytest.raises(FingerprintMismatchError, match="names are equal, so the model's files or the settings"):
            Chroma("docs", changed, client=client)

    def test_settings_of_queries_pass(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """They do not change what the collection holds."""
        Chroma.from_texts(TEXTS, embeddings, client=client, collection_name="docs")
        asking = HuggingFaceEmbeddings(model_name=embeddings.model_name, query_instruction="query: ")
        assert Chroma("docs", asking, client=client)._collection.count() == len(TEXTS)

    def test_embeddings_without_fingerprint_are_refused(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings
    ) -> None:
        """Nothing shows that they are the same."""
        Chroma("docs", embeddings, client=client)
        with pytest.raises(FingerprintMismatchError, match="DeterministicFakeEmbedding, which has no") as caught:
            Chroma("docs", UNKNOWN, client=client)
        assert (caught.value.stored, caught.value.given) == (embeddings.fingerprint, None)

    def test_without_embeddings_only_reads(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """By id, by vector; adding is refused."""
        ids = Chroma.from_texts(TEXTS, embeddings, client=client, collection_name="docs").add_texts(TEXTS)
        reader = Chroma("docs", client=client)
        assert [document.page_content for document in reader.get_by_ids(ids[:1])] == TEXTS[:1]
        found = reader.similarity_search_by_vector(embeddings.embed_query(TEXTS[3]), k=1)
        assert found[0].page_content == TEXTS[3]
        with pytest.raises(InputError, match="opened without embeddings"):
            reader.add_texts(["red"])

    def test_changed_after_opening(self, client: chromadb.ClientAPI, tiny: Path) -> None:
        """Embeddings that are changed while the collection is open cannot write into it."""
        changing = HuggingFaceEmbeddings(model_name=str(tiny))
        store = Chroma.from_texts(TEXTS, changing, client=client, collection_name="docs")
        changing.embed_instruction = "passage: "
        with pytest.raises(FingerprintMismatchError):
            store.add_texts(["red"])


class TestReset:
    """The guard after the collection was deleted."""

    def test_reset_collection_is_stamped(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings, other: HuggingFaceEmbeddings
    ) -> None:
        """The new collection is empty, stamped, and refuses the other model."""
        store = Chroma.from_texts(TEXTS, embeddings, client=client, collection_name="docs")
        store.reset_collection()
        assert client.get_collection("docs").count() == 0
        with pytest.raises(FingerprintMismatchError):
            Chroma("docs", other, client=client)

    def test_reset_of_an_opened_collection_is_stamped(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings
    ) -> None:
        """Also when the store was opened with `create_collection_if_not_exists=False`."""
        Chroma("docs", embeddings, client=client)
        Chroma("docs", embeddings, client=client, create_collection_if_not_exists=False).reset_collection()
        assert client.get_collection("docs").metadata["localhf.fingerprint"] == embeddings.fingerprint

    def test_reset_checks_what_it_finds(
        self,
        client: chromadb.ClientAPI,
        embeddings: HuggingFaceEmbeddings,
        other: HuggingFaceEmbeddings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Another process may create the collection in the instant between deleting and creating."""
        store = Chroma("docs", embeddings, client=client)
        delete = client.delete_collection

        def delete_and_lose_the_race(name: str) -> None:
            delete(name)
            Chroma(name, other, client=client)

        with monkeypatch.context() as patch:
            patch.setattr(client, "delete_collection", delete_and_lose_the_race)
            with pytest.raises(FingerprintMismatchError):
                store.reset_collection()

    def test_deleted_collection_is_free(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings, other: HuggingFaceEmbeddings
    ) -> None:
        """The old store cannot write any more; another model may start anew under the name."""
        store = Chroma.from_texts(TEXTS, embeddings, client=client, collection_name="docs")
        store.delete_collection()
        with pytest.raises(ValueError, match="not initialized"):
            store.add_texts(TEXTS)
        Chroma.from_texts(TEXTS, other, client=client, collection_name="docs")
        assert client.get_collection("docs").metadata["localhf.fingerprint"] == other.fingerprint

    def test_missing_collection_is_missing(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """`create_collection_if_not_exists=False` creates none."""
        with pytest.raises(Exception, match="does not exist"):
            Chroma("docs", embeddings, client=client, create_collection_if_not_exists=False)

    @pytest.mark.parametrize("create", [True, False])
    def test_never_the_downloading_default(self, client: chromadb.ClientAPI, *, create: bool) -> None:
        """A query by text without embeddings is an error; upstream downloads Chroma's default model and asks that."""
        fill_unstamped(client, UNKNOWN)
        reader = Chroma("docs", client=client, create_collection_if_not_exists=create)
        for search in (reader.similarity_search, reader.similarity_search_with_vectors):
            with pytest.raises(InputError, match="opened without embeddings"):
                search("harbour")


class TestUnstamped:
    """Collections that others filled."""

    def test_empty_one_is_stamped(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """There is nothing in it that could be wrong."""
        client.create_collection("docs", embedding_function=None, metadata={"owner": "harbour"})
        Chroma("docs", embeddings, client=client)
        assert client.get_collection("docs").metadata == {
            "owner": "harbour",
            "localhf.fingerprint": embeddings.fingerprint,
            "localhf.model": embeddings.model_name,
        }

    def test_filled_one_is_refused(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """Unless the user says who filled it."""
        fill_unstamped(client, embeddings)
        with pytest.raises(FingerprintMismatchError, match="holds 4 documents, and nothing says") as caught:
            Chroma("docs", embeddings, client=client)
        assert (caught.value.stored, caught.value.given) == (None, embeddings.fingerprint)
        assert "adopt_unstamped=True" in str(caught.value.hint)
        assert client.get_collection("docs").metadata is None

    @pytest.mark.parametrize("configuration", [None, {"hnsw": {"ef_search": 50, "space": "cosine"}}])
    def test_adoption(
        self,
        client: chromadb.ClientAPI,
        embeddings: HuggingFaceEmbeddings,
        encoded: list[list[str]],
        configuration: Any,
    ) -> None:
        """Three documents are compared; the stamp is set, the user's metadata and the index stay."""
        fill_unstamped(client, embeddings, collection_metadata={"owner": "x"}, collection_configuration=configuration)
        encoded.clear()
        index = client.get_collection("docs").configuration_json["hnsw"]
        Chroma("docs", embeddings, client=client, adopt_unstamped=True)
        assert [len(texts) for texts in encoded] == [3]
        adopted = client.get_collection("docs")
        assert adopted.metadata["localhf.fingerprint"] == embeddings.fingerprint
        assert adopted.metadata["owner"] == "x"
        assert adopted.configuration_json["hnsw"] == index
        Chroma("docs", embeddings, client=client)  # from now on without being told

    def test_adopted_collection_keeps_its_distance(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings
    ) -> None:
        """Chroma refuses to write `hnsw:space` again; the scores are still those of cosine."""
        fill_unstamped(client, embeddings, collection_metadata={"hnsw:space": "cosine", "hnsw:search_ef": 77})
        before = langchain_chroma.Chroma("docs", embeddings, client=client)
        expected = before.similarity_search_with_relevance_scores("harbour", k=4)
        store = Chroma("docs", embeddings, client=client, adopt_unstamped=True)
        assert store._select_relevance_score_fn() == store._cosine_relevance_score_fn
        assert store.similarity_search_with_relevance_scores("harbour", k=4) == expected
        assert client.get_collection("docs").metadata["hnsw:search_ef"] == 77

    def test_adopted_collection_remembers_the_model(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings
    ) -> None:
        """Chroma's own client asks the adopted model, where it would have downloaded its default."""
        fill_unstamped(client, embeddings)
        Chroma("docs", embeddings, client=client, adopt_unstamped=True)
        found = client.get_collection("docs").query(query_texts=[TEXTS[1]], n_results=1)
        assert found["documents"] == [[TEXTS[1]]]

    def test_adoption_leaves_the_function_of_others(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings
    ) -> None:
        """A program may rely on the function that the collection names."""
        client.create_collection("docs")
        Chroma("docs", embeddings, client=client)
        assert client.get_collection("docs").configuration_json["embedding_function"]["name"] == "default"
        assert client.get_collection("docs").metadata["localhf.fingerprint"] == embeddings.fingerprint

    def test_adoption_by_another_model_is_refused(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings, other: HuggingFaceEmbeddings
    ) -> None:
        """What the user says is checked."""
        fill_unstamped(client, embeddings)
        with pytest.raises(FingerprintMismatchError, match=r"was not filled by .*other.* has cosine -?0\.\d"):
            Chroma("docs", other, client=client, adopt_unstamped=True)
        assert client.get_collection("docs").metadata is None

    def test_adoption_looks_beyond_the_first(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings, other: HuggingFaceEmbeddings
    ) -> None:
        """A collection that two models filled, one after the other, is refused."""
        fill_unstamped(client, embeddings)
        langchain_chroma.Chroma("docs", other, client=client).add_texts(["red blue green"])
        with pytest.raises(FingerprintMismatchError, match="'red blue green' has cosine"):
            Chroma("docs", embeddings, client=client, adopt_unstamped=True)

    def test_adoption_compares_dimensions(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """Vectors of another length cannot be this model's."""
        fill_unstamped(client, DeterministicFakeEmbedding(size=6))
        with pytest.raises(FingerprintMismatchError, match="its vectors have 6 dimensions, not 32"):
            Chroma("docs", embeddings, client=client, adopt_unstamped=True)

    def test_adoption_compares_lengths(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """Vectors that point the same way but are not normalised have other distances."""
        client.create_collection("docs", embedding_function=None).add(
            ids=["1"], documents=["red"], embeddings=[[3 * value for value in embeddings.embed_query("red")]]
        )
        with pytest.raises(FingerprintMismatchError, match=r"have length 3, not 1; is normalize_embeddings the same\?"):
            Chroma("docs", embeddings, client=client, adopt_unstamped=True)

    @pytest.mark.parametrize("vector", [[0.0] * checkpoints.DIMENSION, [1.0] * checkpoints.DIMENSION])
    def test_adoption_refuses_odd_vectors(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings, vector: list[float]
    ) -> None:
        """Zeros have no direction; they are refused as any other wrong vector is."""
        client.create_collection("docs", embedding_function=None).add(ids=["1"], documents=["red"], embeddings=[vector])
        with pytest.raises(FingerprintMismatchError, match="has cosine"):
            Chroma("docs", embeddings, client=client, adopt_unstamped=True)

    def test_adoption_needs_texts(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> None:
        """Vectors alone prove nothing."""
        vector: Any = embeddings.embed_documents(["red"])
        client.create_collection("docs", embedding_function=None).add(ids=["1"], embeddings=vector)
        with pytest.raises(FingerprintMismatchError, match="holds no texts"):
            Chroma("docs", embeddings, client=client, adopt_unstamped=True)

    def test_upstream_reads_what_was_made_here(
        self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings
    ) -> None:
        """`langchain_chroma`'s own class works with these embeddings, unguarded, on a stamped collection too."""
        Chroma.from_texts(TEXTS, embeddings, client=client, collection_name="docs")
        upstream = langchain_chroma.Chroma("docs", embeddings, client=client)
        upstream.add_texts(["red blue green"])
        found = upstream.similarity_search_with_relevance_scores("red blue green", k=1)
        assert found[0][0].page_content == "red blue green"
