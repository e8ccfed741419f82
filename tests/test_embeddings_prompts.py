"""What stands before a text when it reaches the model, and what the fingerprint makes of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from support import checkpoints

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

PROMPTS = {"query": "query: ", "document": "passage: "}


@pytest.fixture
def prompted(tmp_path: Path) -> Path:
    """A tiny model that was saved with a prompt for queries and another for documents."""
    return checkpoints.sentence_transformer(tmp_path / "prompted", prompts=PROMPTS)


def make(folder: Path, **fields: Any) -> HuggingFaceEmbeddings:
    """The embeddings of a model in a folder."""
    return HuggingFaceEmbeddings(model_name=str(folder), **fields)


def plain_vectors(folder: Path, texts: list[str]) -> list[list[float]]:
    """What sentence-transformers gives, without any prompt."""
    return SentenceTransformer(str(folder), device="cpu").encode(texts, prompt="").tolist()


class TestPrompts:
    """What stands before a text when it reaches the model."""

    def test_saved_prompts_apply(self, prompted: Path) -> None:
        """The prompts that the model was saved with are put before queries and documents."""
        embeddings = make(prompted)
        query, document = plain_vectors(prompted, ["query: a city", "passage: a city"])
        assert np.allclose(embeddings.embed_query("a city"), query, atol=1e-6)
        assert np.allclose(embeddings.embed_documents(["a city"]), [document], atol=1e-6)

    @pytest.mark.parametrize("name", ["passage", "corpus"])
    def test_other_names_of_the_document_prompt(self, tmp_path: Path, name: str) -> None:
        """A prompt that was saved as `passage` or `corpus` is put before documents."""
        folder = checkpoints.sentence_transformer(tmp_path / "model", prompts={name: "red: "})
        expected = plain_vectors(folder, ["red: a city"])
        assert np.allclose(make(folder).embed_documents(["a city"]), expected, atol=1e-6)

    @pytest.mark.parametrize(
        ("fields", "prefix"),
        [
            ({"query_instruction": "find: "}, "find: "),
            ({"query_instruction": ""}, ""),
            ({"query_encode_kwargs": {"prompt": "find: "}}, "find: "),
            ({"encode_kwargs": {"prompt": "red: "}}, "red: "),
            ({"encode_kwargs": {"prompt": "red: "}, "query_encode_kwargs": {"prompt_name": "query"}}, "query: "),
            ({"encode_kwargs": {"prompt_name": "document"}, "query_encode_kwargs": {"prompt": "find: "}}, "find: "),
            ({"encode_kwargs": {"prompt": "red: "}, "query_instruction": "find: "}, "find: "),
            ({"model_kwargs": {"prompts": {"query": "ask: "}}}, "ask: "),
        ],
    )
    def test_prompt_of_queries(self, prompted: Path, fields: dict[str, Any], prefix: str) -> None:
        """What is stated for queries wins over what is stated for all texts, and both over what the model says."""
        vector = make(prompted, **fields).embed_query("a city")
        assert np.allclose(vector, plain_vectors(prompted, [f"{prefix}a city"])[0], atol=1e-6)

    @pytest.mark.parametrize(
        ("fields", "prefix"),
        [
            ({"embed_instruction": "red: "}, "red: "),
            ({"embed_instruction": ""}, ""),
            ({"encode_kwargs": {"prompt": "red: "}}, "red: "),
            ({"encode_kwargs": {"prompt_name": "query"}}, "query: "),
            ({"query_instruction": "find: ", "query_encode_kwargs": {"truncate_dim": 8}}, "passage: "),
        ],
    )
    def test_prompt_of_documents(self, prompted: Path, fields: dict[str, Any], prefix: str) -> None:
        """What is stated for documents wins over what the model says; nothing that is stated for queries counts."""
        vectors = make(prompted, **fields).embed_documents(["a city"])
        assert np.allclose(vectors, plain_vectors(prompted, [f"{prefix}a city"]), atol=1e-6)

    @pytest.mark.parametrize(
        "fields",
        [
            {"embed_instruction": "red: ", "encode_kwargs": {"prompt": "blue: "}},
            {"query_instruction": "find: ", "query_encode_kwargs": {"prompt_name": "query"}},
        ],
    )
    def test_two_prompts_are_refused(self, prompted: Path, fields: dict[str, Any]) -> None:
        """An instruction and a prompt for the same texts contradict each other."""
        with pytest.raises(InputError, match="contradict"):
            make(prompted, **fields)


class TestFingerprint:
    """What `fingerprint` depends on."""

    @pytest.mark.parametrize(
        "fields",
        [
            {"query_instruction": "find: "},
            {"query_encode_kwargs": {"truncate_dim": 8}},
            {"encode_kwargs": {"batch_size": 4, "show_progress_bar": False}},
            {"embed_instruction": ""},
            {"model_kwargs": {"device": "cpu"}, "show_progress": True},
        ],
    )
    def test_unchanged(self, tiny: Path, fields: dict[str, Any]) -> None:
        """Settings that change no vector of a document leave it as it is."""
        assert make(tiny, **fields).fingerprint == make(tiny).fingerprint

    @pytest.mark.parametrize(
        "fields",
        [
            {"embed_instruction": "red: "},
            {"encode_kwargs": {"prompt": "red: "}},
            {"encode_kwargs": {"truncate_dim": 8}},
            {"model_kwargs": {"truncate_dim": 8}},
            {"encode_kwargs": {"precision": "binary"}},
            {"model_kwargs": {"processor_kwargs": {"model_max_length": 16}}},
        ],
    )
    def test_changed(self, tiny: Path, fields: dict[str, Any]) -> None:
        """Settings that change a vector of a document change it."""
        assert make(tiny, **fields).fingerprint != make(tiny).fingerprint

    def test_is_a_sha256(self, tiny: Path) -> None:
        """It is 64 hexadecimal digits."""
        assert re.fullmatch("[0-9a-f]{64}", make(tiny).fingerprint)
