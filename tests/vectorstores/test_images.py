"""Pictures in a collection, found by words and by pictures: in the Chroma of this package, LangChain's, and its own."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import langchain_chroma
import numpy as np
import pytest
from chromadb.utils.data_loaders import ChromaLangchainPassthroughDataLoader
from chromadb.utils.embedding_functions.chroma_langchain_embedding_function import create_langchain_embedding
from support import dual_encoders, shapes

from langchain_localhf import CLIPEmbeddings, HuggingFaceEmbeddings
from langchain_localhf.errors import FingerprintMismatchError, InputError
from langchain_localhf.vectorstores import Chroma, LocalHFEmbeddingFunction

if TYPE_CHECKING:
    import chromadb

TEXT = "the ship sails at dawn"


@pytest.fixture
def clip(tmp_path: Path) -> CLIPEmbeddings:
    """The embeddings of a dual encoder."""
    return CLIPEmbeddings(model_name=str(dual_encoders.clip(tmp_path / "clip")))


@pytest.fixture
def pair(clip: CLIPEmbeddings, tmp_path: Path) -> CLIPEmbeddings:
    """The same with another model for texts."""
    return clip.model_copy(update={"text_model_name": str(dual_encoders.text_tower(tmp_path / "texts"))})


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """The paths of five pictures."""
    paths = [tmp_path / f"{seed}.png" for seed in range(5)]
    for seed, path in enumerate(paths):
        dual_encoders.picture(seed).save(path)
    return [str(path) for path in paths]


def base64_of(path: str) -> str:
    """A file as Chroma stores it as a document."""
    with open(path, "rb") as file:  # noqa: PTH123 - what `add_images` takes are texts, too
        return base64.b64encode(file.read()).decode()


@pytest.mark.parametrize("kind", [Chroma, langchain_chroma.Chroma], ids=["here", "langchain_chroma"])
class TestStores:
    """As in `langchain_chroma`, with and without the guard."""

    def test_pictures_find_pictures(
        self, kind: type[langchain_chroma.Chroma], client: chromadb.ClientAPI, clip: CLIPEmbeddings, files: list[str]
    ) -> None:
        """A picture finds itself, and comes back as it was stored."""
        store = kind("pictures", clip, client=client)
        store.add_images(files, metadatas=[{"path": path} for path in files])
        [found] = store.similarity_search_by_image(files[3], k=1)
        assert (found.page_content, found.metadata) == (base64_of(files[3]), {"path": files[3]})

    def test_words_find_pictures(
        self, kind: type[langchain_chroma.Chroma], client: chromadb.ClientAPI, pair: CLIPEmbeddings, files: list[str]
    ) -> None:
        """A text is compared with the pictures by their vectors, also where two models make them."""
        store = kind("pictures", pair, client=client)
        store.add_images(files, metadatas=[{"path": path} for path in files])
        found = store.similarity_search_with_score(TEXT, k=5)
        distances = np.square(np.array(pair.embed_image(files)) - np.array(pair.embed_query(TEXT))).sum(axis=1)
        assert [document.metadata["path"] for document, _ in found] == [files[at] for at in np.argsort(distances)]
        np.testing.assert_allclose([distance for _, distance in found], np.sort(distances), rtol=1e-4)

    def test_a_picture_that_is_none(
        self, kind: type[langchain_chroma.Chroma], client: chromadb.ClientAPI, clip: CLIPEmbeddings, files: list[str]
    ) -> None:
        """One that cannot be read is named, and none is stored."""
        with open(files[1], "wb") as file:  # noqa: PTH123 - as above
            file.write(b"a text")
        store = kind("pictures", clip, client=client)
        with pytest.raises(InputError, match=r"images\[1\]"):
            store.add_images(files)
        assert store.get()["ids"] == []


def test_with_distances(client: chromadb.ClientAPI, clip: CLIPEmbeddings, files: list[str]) -> None:
    """With its distance, as langchain_chroma promises it and fails."""
    store = Chroma("pictures", clip, client=client)
    store.add_images(files, metadatas=[{"path": path} for path in files])
    [(found, distance)] = store.similarity_search_by_image_with_relevance_score(files[2], k=1)
    assert found.metadata == {"path": files[2]}
    assert distance == pytest.approx(0, abs=1e-4)
    with pytest.raises(ValueError, match="Expected embeddings to be a list"):
        langchain_chroma.Chroma("pictures", clip, client=client).similarity_search_by_image_with_relevance_score(
            files[2]
        )
    texts = Chroma("pictures", HuggingFaceEmbeddings(model_name=clip.model_name), client=client)
    with pytest.raises(InputError, match="HuggingFaceEmbeddings cannot embed images"):
        texts.similarity_search_by_image_with_relevance_score(files[2])


class TestGuard:
    """A collection of pictures knows its models."""

    def test_both_models_count(self, client: chromadb.ClientAPI, clip: CLIPEmbeddings, pair: CLIPEmbeddings) -> None:
        """The pictures of one model with the texts of another are another space."""
        Chroma("pictures", clip, client=client)
        Chroma("pictures", clip.model_copy(), client=client)
        Chroma("pictures", HuggingFaceEmbeddings(model_name=clip.model_name), client=client)
        with pytest.raises(FingerprintMismatchError):
            Chroma("pictures", pair, client=client)

    def test_texts_and_pictures(self, client: chromadb.ClientAPI, clip: CLIPEmbeddings, files: list[str]) -> None:
        """Both in one collection, and with the bar for both off."""
        store = Chroma("all", clip, client=client)
        store.add_texts([TEXT, "winter in the city"])
        store.add_images(files)
        assert store.similarity_search(TEXT, k=1)[0].page_content == TEXT
        assert store.similarity_search_by_image(files[0], k=1)[0].page_content == base64_of(files[0])

    def test_adopted(self, client: chromadb.ClientAPI, pair: CLIPEmbeddings, files: list[str]) -> None:
        """A collection of pictures from langchain_chroma is compared with the pictures' vectors, not with texts'."""
        langchain_chroma.Chroma("pictures", pair, client=client).add_images(files)
        with pytest.raises(FingerprintMismatchError, match="adopt_unstamped"):
            Chroma("pictures", pair, client=client)
        other = pair.model_copy(update={"encode_kwargs": {"normalize_embeddings": True}})
        with pytest.raises(FingerprintMismatchError, match="was not filled by"):
            Chroma("pictures", other, client=client, adopt_unstamped=True)
        Chroma("pictures", pair, client=client, adopt_unstamped=True)
        assert len(Chroma("pictures", pair, client=client).get()["ids"]) == 5

    @pytest.mark.parametrize("which", ["clip", "pair"])
    def test_reopened_by_chroma(
        self, which: str, client: chromadb.ClientAPI, files: list[str], request: pytest.FixtureRequest
    ) -> None:
        """Chroma's own client asks the pictures by words with the models that the collection remembers."""
        embeddings: CLIPEmbeddings = request.getfixturevalue(which)
        Chroma("pictures", embeddings, client=client).add_images(files, ids=list("abcde"))
        collection = client.get_collection("pictures")
        found = collection.query(query_texts=[TEXT], n_results=5)
        expected = collection.query(query_embeddings=[embeddings.embed_query(TEXT)], n_results=5)
        assert found["ids"] == expected["ids"]
        assert found["distances"] == expected["distances"]

    def test_embedding_function(self, client: chromadb.ClientAPI, pair: CLIPEmbeddings, files: list[str]) -> None:
        """The function for Chroma's own client remembers both models, and opens them again."""
        collection = client.create_collection("texts", embedding_function=LocalHFEmbeddingFunction(pair))
        collection.add(ids=["a"], documents=[TEXT])
        again = LocalHFEmbeddingFunction.build_from_config(LocalHFEmbeddingFunction(pair).get_config())
        np.testing.assert_array_equal(again([TEXT]), LocalHFEmbeddingFunction(pair)([TEXT]))


def test_words_mean_what_they_say(tmp_path: Path) -> None:
    """With a model that was taught something, words find the pictures that show it, and pictures their like."""
    paths = []
    for seed, kind in enumerate(shapes.KINDS * 3):
        paths.append(str(tmp_path / f"{seed}.png"))
        shapes.draw(*kind, seed=seed).save(paths[-1])
    settings = {"normalize_embeddings": True}
    store = Chroma(
        "shapes",
        CLIPEmbeddings(model_name=str(shapes.model()), encode_kwargs=settings),
        persist_directory=str(tmp_path / "db"),
    )
    store.add_images(paths, metadatas=[{"colour": colour, "shape": shape} for colour, shape in shapes.KINDS * 3])
    by_words = [store.similarity_search(f"a {colour} {shape}", k=1) for colour, shape in shapes.KINDS]
    by_pictures = [store.similarity_search_by_image(path, k=3)[1:] for path in paths[: len(shapes.KINDS)]]
    for found in (by_words, by_pictures):
        right = [
            all((document.metadata["colour"], document.metadata["shape"]) == kind for document in documents)
            for kind, documents in zip(shapes.KINDS, found, strict=True)
        ]
        assert sum(right) >= len(shapes.KINDS) - 3


@pytest.mark.filterwarnings("ignore:legacy embedding function config:DeprecationWarning")  # it cannot write this one
def test_chroma_alone(client: chromadb.ClientAPI, clip: CLIPEmbeddings, files: list[str]) -> None:
    """Chroma's own client takes the class by way of its bridge to LangChain, to add pictures."""
    collection = client.create_collection(
        "pictures",
        embedding_function=create_langchain_embedding(clip),  # type: ignore[arg-type]
        data_loader=ChromaLangchainPassthroughDataLoader(),  # type: ignore[arg-type]
    )
    collection.add(ids=list("abcde"), uris=files)
    stored = collection.get(include=["embeddings"])["embeddings"]
    np.testing.assert_allclose(np.asarray(stored), clip.embed_image(files), atol=1e-6)
    # The bridge cannot be asked by a query: chromadb calls it by the name of a parameter that it does not have.
    query = clip.embed_query(TEXT)
    assert len(collection.query(query_embeddings=[query], n_results=5)["ids"][0]) == 5
    vector = clip.embed_image([files[4]])
    assert collection.query(query_embeddings=vector, n_results=1)["ids"] == [["e"]]


def test_more_pictures_than_chroma_takes_at_once(
    client: chromadb.ClientAPI, clip: CLIPEmbeddings, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are stored in parts, each picture with what was given for it."""
    store = Chroma("pictures", clip, client=client)
    monkeypatch.setattr(store._client, "get_max_batch_size", lambda: 2)
    ids = store.add_images(
        files, metadatas=[{"path": path} for path in files[:4]] + [None], ids=["a", None, "c", "d", "e"]
    )
    stored = store.get(ids)
    assert sorted(stored["ids"]) == sorted(ids)
    assert dict(zip(stored["ids"], stored["documents"], strict=True))["e"] == base64_of(files[4])
    metadatas = dict(zip(stored["ids"], stored["metadatas"], strict=True))
    assert (metadatas["a"], metadatas["e"]) == ({"path": files[0]}, None)


@pytest.mark.parametrize("given", [{"ids": ["a"]}, {"metadatas": [{"n": 1}]}])
def test_not_as_many_of_each(
    client: chromadb.ClientAPI, clip: CLIPEmbeddings, files: list[str], given: dict[str, list[Any]]
) -> None:
    """Nobody guesses which is whose; nothing is stored."""
    store = Chroma("pictures", clip, client=client)
    with pytest.raises(InputError, match="5 images"):
        store.add_images(files, **given)
    assert store.get()["ids"] == []


def test_files_in_other_forms(client: chromadb.ClientAPI, clip: CLIPEmbeddings, files: list[str]) -> None:
    """Bytes and base64 are stored as the file whose path would be given, also from a generator."""
    store = Chroma("pictures", clip, client=client)
    data = Path(files[0]).read_bytes()
    forms = [Path(files[0]), data, bytearray(data), base64_of(files[0]), f"data:image/png;base64,{base64_of(files[0])}"]
    forms.append(base64.encodebytes(data).decode())
    ids = store.add_images(form for form in forms)
    stored = store.get(ids, include=["documents", "embeddings"])
    assert stored["documents"] == [base64_of(files[0])] * len(forms)
    np.testing.assert_array_equal(stored["embeddings"], clip.embed_image(files[:1]) * len(forms))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        pytest.param({"ids": list("abcda")}, "ids are given more than once: 'a'", id="one id twice"),
        pytest.param({"ids": [1, 2, 3, 4, 5]}, r"ids\[0\] is 1", id="numbers for ids"),
        pytest.param({"metadatas": [*[None] * 4, {"a": {"b": 1}}]}, r"metadatas\[4\] cannot be stored", id="metadata"),
    ],
)
def test_checked_first(
    client: chromadb.ClientAPI, clip: CLIPEmbeddings, files: list[str], given: dict[str, Any], message: str
) -> None:
    """What Chroma would refuse in the last part is found before an image is read; nothing is stored."""
    store = Chroma("pictures", clip, client=client)
    with pytest.raises(InputError, match=message):
        store.add_images([*files[:4], "missing.png"], **given)
    assert store.get()["ids"] == []


def test_no_file(client: chromadb.ClientAPI, clip: CLIPEmbeddings, files: list[str]) -> None:
    """A picture in memory has no file to keep, and a path alone is no list; both are found before an image is read."""
    store = Chroma("pictures", clip, client=client)
    with pytest.raises(InputError, match=r"images\[1\] is a picture in memory") as raised:
        store.add_images(["missing.png", dual_encoders.picture()])
    assert raised.value.index == 1
    with pytest.raises(InputError, match="a list of images, not str"):
        store.add_images(files[0])
