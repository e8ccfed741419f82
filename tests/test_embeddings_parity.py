"""The same vectors as the classes that this one replaces, on the real all-MiniLM-L6-v2."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import langchain_huggingface
import numpy as np
import pytest
from support.checkpoints import minilm_folder

from langchain_localhf import HuggingFaceEmbeddings

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings

# all-MiniLM-L6-v2 reads a newline as a space, so the replacement that the others make shows in no vector.
TEXTS = [
    "What did the president say about Ketanji Brown Jackson",
    "Das Schiff fährt im Morgengrauen aus dem Hafen.",
    "港口在哪里?",
    "ميناء المدينة",
    "Где находится гавань?",
    "นี่คือข้อความภาษาไทย",
    "naïve café — “quoted” … ½ ™ 😀",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 2))",
    "one\ntwo\r\nthree\tfour",
    "",
    " ",
    "a",
    "[CLS] [SEP] [PAD] [MASK]",
    "https://example.com/a?b=c#d",
    "0123456789" * 30,
    "The harbour lies to the south of the city, and the river reaches the sea there. " * 2,
    "A very long report that nobody reads to its end, because it says the same thing again and again. " * 20,
]


@functools.cache
def community(name: str) -> type[Embeddings]:
    """A class of langchain_community, which warns about its end when it is imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.embeddings import huggingface  # noqa: PLC0415 - inside the guard for its warnings

        return getattr(huggingface, name)


def original(kind: type[Embeddings], **fields: Any) -> Embeddings:
    """An object of the class that is replaced; its warnings about its own end are not our subject."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(model_name=str(minilm_folder()), **fields)


def assert_same_vectors(ours: Embeddings, theirs: Embeddings) -> None:
    """No number of any vector differs by more than 1e-6."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        documents = theirs.embed_documents(TEXTS)
        queries = [theirs.embed_query(text) for text in TEXTS[:6]]
    assert np.abs(np.array(ours.embed_documents(TEXTS)) - documents).max() <= 1e-6
    assert np.abs(np.array([ours.embed_query(text) for text in TEXTS[:6]]) - queries).max() <= 1e-6


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"encode_kwargs": {"normalize_embeddings": True}},
        {"encode_kwargs": {"normalize_embeddings": False, "batch_size": 3}},
        {"encode_kwargs": {"batch_size": 128}, "model_kwargs": {"device": "cpu"}},
        {"model_kwargs": {"truncate_dim": 100}, "encode_kwargs": {"normalize_embeddings": True}},
        {"encode_kwargs": {"prompt": "passage: "}, "query_encode_kwargs": {"prompt": "query: "}},
        {"encode_kwargs": {"precision": "binary"}},
    ],
    ids=str,
)
def test_langchain_huggingface(fields: dict[str, Any]) -> None:
    """The same fields give the vectors of `langchain_huggingface.HuggingFaceEmbeddings`."""
    theirs = original(langchain_huggingface.HuggingFaceEmbeddings, **fields)
    assert_same_vectors(HuggingFaceEmbeddings(model_name=str(minilm_folder()), **fields), theirs)


@pytest.mark.parametrize("normalize", [True, False])
def test_langchain_community(*, normalize: bool) -> None:
    """The same fields give the vectors of `langchain_community`'s `HuggingFaceEmbeddings`."""
    fields: dict[str, Any] = {"encode_kwargs": {"normalize_embeddings": normalize}}
    theirs = original(community("HuggingFaceEmbeddings"), **fields)
    assert_same_vectors(HuggingFaceEmbeddings(model_name=str(minilm_folder()), **fields), theirs)


@pytest.mark.parametrize(
    "fields",
    [
        {"query_instruction": "Represent this question for searching relevant passages: "},
        {"query_instruction": "search_query:", "embed_instruction": "search_document:"},
        {"query_instruction": "", "embed_instruction": ""},
    ],
    ids=["query", "both", "none"],
)
def test_instructions_of_langchain_community(fields: dict[str, Any]) -> None:
    """Instructions give the vectors of `langchain_community`'s `HuggingFaceBgeEmbeddings`."""
    theirs = original(community("HuggingFaceBgeEmbeddings"), **fields)
    assert_same_vectors(HuggingFaceEmbeddings(model_name=str(minilm_folder()), **fields), theirs)
