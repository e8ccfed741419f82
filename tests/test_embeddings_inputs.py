"""What is embedded and what is refused: a text gets the vector that sentence-transformers gives, or an InputError."""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from support import checkpoints
from support.spies import watch

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from pathlib import Path

WORDS = " ".join(checkpoints.WORDS)


@pytest.fixture
def embeddings(tiny: Path) -> HuggingFaceEmbeddings:
    """The embeddings of the tiny model."""
    return HuggingFaceEmbeddings(model_name=str(tiny))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceEmbeddings:
    """The same, loaded once for the many examples of a property."""
    folder = checkpoints.sentence_transformer(tmp_path_factory.mktemp("shared") / "tiny")
    return HuggingFaceEmbeddings(model_name=str(folder))


@pytest.mark.parametrize("item", [None, 3, 1.5, b"bytes", ["a city"], {"text": "a city"}, ("a city", "a river")])
def test_item_that_is_no_text(embeddings: HuggingFaceEmbeddings, item: Any) -> None:
    """An item that is no text is refused by its index and its type; so is a query."""
    with pytest.raises(InputError, match=rf"texts\[1\] is {type(item).__name__}; expected str") as caught:
        embeddings.embed_documents(["a city", item])
    assert caught.value.index == 1
    with pytest.raises(InputError, match=f"the query is {type(item).__name__}"):
        embeddings.embed_query(item)


@pytest.mark.parametrize("texts", ["a city", b"bytes", None, 3, {"a city": 1}])
def test_no_list_of_texts(embeddings: HuggingFaceEmbeddings, texts: Any) -> None:
    """A single text, a number, None or a dictionary in place of the list is refused, not embedded letter by letter."""
    with pytest.raises(InputError, match=f"a list of texts, not {type(texts).__name__}"):
        embeddings.embed_documents(texts)


@pytest.mark.parametrize("collect", [tuple, iter, deque, np.array, lambda texts: (text for text in texts)])
def test_other_collections(embeddings: HuggingFaceEmbeddings, collect: Any) -> None:
    """Tuples, arrays and generators of texts give the vectors of the list, in its order."""
    texts = ["a city", "a river", "a city"]
    assert embeddings.embed_documents(collect(texts)) == embeddings.embed_documents(texts)


@pytest.mark.parametrize("text", ["\ud800", "a city \udfff", "\ude00\ud83d"])
def test_lone_surrogate(embeddings: HuggingFaceEmbeddings, text: str) -> None:
    """Half a character is refused by its index; the hint repairs it."""
    with pytest.raises(InputError, match=r"texts\[2\] holds a lone surrogate at position") as caught:
        embeddings.embed_documents(["a", "b", text])
    assert caught.value.index == 2
    repaired = eval(str(caught.value.hint).partition(": ")[2], {"text": text})  # noqa: S307 - the hint is a code line
    embeddings.embed_query(repaired)


def test_empty_list(embeddings: HuggingFaceEmbeddings) -> None:
    """No texts, no vectors."""
    assert embeddings.embed_documents([]) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\t ",
        "\0",
        "a\0city",
        "a\ncity\r\nriver",
        "😀 \U0010ffff",
        "\ufeffa city",
        "e\u0301",
        WORDS * 40,
        "a" * 5000,
    ],
    ids=lambda text: repr(text[:20]),
)
def test_unusual_text(embeddings: HuggingFaceEmbeddings, tiny: Path, text: str) -> None:
    """Empty, blank, long and odd texts get the vectors that sentence-transformers gives, alone and among others."""
    own = SentenceTransformer(str(tiny), device="cpu").encode(text)
    assert np.allclose(embeddings.embed_query(text), own, atol=1e-6)
    assert np.allclose(embeddings.embed_documents(["a city", text, "a river"])[1], own, atol=1e-6)


def test_text_of_ten_megabytes(embeddings: HuggingFaceEmbeddings, tiny: Path) -> None:
    """A document with a picture in base64 behind its words gets its vector, which is that of its beginning."""
    words = WORDS * 10
    own = SentenceTransformer(str(tiny), device="cpu").encode(words)
    assert np.allclose(embeddings.embed_query(words + " " + "iVBORw0K" * 1_250_000), own, atol=1e-6)


def test_texts_reach_the_model_as_they_are(embeddings: HuggingFaceEmbeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    """No character is rewritten; newlines stay."""
    calls = watch(monkeypatch, "encode")
    texts = ["two\nlines", " blank around ", "Ä\u0308\r\n"]
    embeddings.embed_documents(texts)
    embeddings.embed_query(texts[0])
    assert sorted(calls.inputs) == sorted([*texts, texts[0]])


def test_duplicates_are_embedded_once(embeddings: HuggingFaceEmbeddings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that stands in a batch several times reaches the model once, and comes back in each of its places."""
    calls = watch(monkeypatch, "encode")
    first, river, again = embeddings.embed_documents(["a city", "a river", "a city"])
    assert sorted(calls.inputs) == ["a city", "a river"]
    assert first == again != river
    first.append(0.0)
    assert first != again, "two places share one list"


def test_vector_that_is_not_finite(tiny: Path) -> None:
    """A vector with a NaN is refused by the index of its text; nobody stores it."""
    embeddings = HuggingFaceEmbeddings(model_name=str(tiny), encode_kwargs={"normalize_embeddings": True})
    encoder = embeddings._model.encoder

    class Broken:
        def encode(self, texts: list[str], **settings: Any) -> Any:
            vectors = encoder.encode(texts, **settings).copy()
            vectors[texts.index("a river"), 3] = np.nan
            return vectors

    object.__setattr__(embeddings._model, "encoder", Broken())
    with pytest.raises(CheckpointError, match=r"no finite vector for texts\[2\]"):
        embeddings.embed_documents(["a city", "a city", "a river"])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(
        st.text(max_size=60) | st.lists(st.sampled_from(checkpoints.WORDS), max_size=30).map(" ".join), max_size=12
    ),
    seed=st.integers(0, 1000),
)
def test_one_text_one_vector(shared: HuggingFaceEmbeddings, texts: list[str], seed: int) -> None:
    """However texts are ordered, repeated and batched, each gets the vector that it gets alone."""
    shuffler = random.Random(seed)  # noqa: S311 - no secret
    mixed = [*texts, *shuffler.choices(texts, k=5)] if texts else []
    shuffler.shuffle(mixed)
    alone = {text: shared.embed_documents([text])[0] for text in texts}
    together = shared.embed_documents(mixed)
    assert len(together) == len(mixed)
    assert np.allclose(together, [alone[text] for text in mixed], rtol=0, atol=1e-6)
