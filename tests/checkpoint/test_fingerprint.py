"""The fingerprint: equal for equal vectors of documents, different for different ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support import checkpoints
from support.checkpoints import edit_json

from langchain_localhf.checkpoint.checkpoint import Checkpoint
from langchain_localhf.checkpoint.fingerprint import fingerprint
from langchain_localhf.checkpoint.prompts import document_prompt_name, prompt_for
from langchain_localhf.store.manifest import describe

if TYPE_CHECKING:
    from pathlib import Path


def _fingerprint(folder: Path, **settings: Any) -> str:
    checkpoint = Checkpoint.read(folder)
    hashes = {entry.path: entry.sha256 for entry in describe(folder, checkpoint.files)}
    return fingerprint(checkpoint, hashes, **settings)


def test_it_is_64_hexadecimal_digits(tiny: Path) -> None:
    """The form in which it is stored with a collection."""
    assert len(bytes.fromhex(_fingerprint(tiny))) == 32


@pytest.mark.parametrize("path", ["README.md", "LICENSE", "model.py", "onnx/model.onnx", ".gitattributes"])
def test_files_that_change_no_vector(tiny: Path, path: str) -> None:
    """Documents, and files that are never read, do not count."""
    before = _fingerprint(tiny)
    (tiny / path).parent.mkdir(exist_ok=True)
    (tiny / path).write_text("other")
    assert _fingerprint(tiny) == before


@pytest.mark.parametrize(
    "path", ["model.safetensors", "config.json", "tokenizer.json", "sentence_bert_config.json", "1_Pooling/config.json"]
)
def test_files_that_can_change_a_vector(tiny: Path, path: str) -> None:
    """One byte more in any of them makes another fingerprint."""
    before = _fingerprint(tiny)
    with (tiny / path).open("ab") as file:
        file.write(b" ")
    assert _fingerprint(tiny) != before


@pytest.mark.parametrize(
    "settings",
    [
        {"model_kwargs": {"device": "cuda", "trust_remote_code": True, "revision": "v2", "cache_folder": "/x"}},
        {"model_kwargs": {"truncate_dim": None, "tokenizer_kwargs": {}}},
        {"model_kwargs": {"model_kwargs": {"dtype": "bfloat16", "attn_implementation": "eager"}}},
        {"model_kwargs": {"prompts": {"query": "query: "}}},
        {"encode_kwargs": {"batch_size": 1, "show_progress_bar": True, "device": "cpu", "precision": "float32"}},
        {"encode_kwargs": {"normalize_embeddings": True}},
        {"encode_kwargs": {"normalize_embeddings": False}},
    ],
)
def test_settings_that_change_no_document_vector(tiny: Path, settings: dict[str, Any]) -> None:
    """Where and how fast, prompts of queries, and normalising what the model normalises itself."""
    assert _fingerprint(tiny, **settings) == _fingerprint(tiny)


@pytest.mark.parametrize(
    "settings",
    [
        {"model_kwargs": {"truncate_dim": 8}},
        {"model_kwargs": {"truncate_dim": 8}, "encode_kwargs": {"normalize_embeddings": True}},
        {"model_kwargs": {"prompts": {"document": "passage: "}}},
        {"model_kwargs": {"model_kwargs": {"quantization_config": "int8"}}},
        {"model_kwargs": {"tokenizer_kwargs": {"model_max_length": 8}}},
        {"encode_kwargs": {"truncate_dim": 8}},
        {"encode_kwargs": {"prompt": "passage: "}},
        {"encode_kwargs": {"precision": "binary"}},
        {"pooling": "cls"},
    ],
)
def test_settings_that_change_a_document_vector(tiny: Path, settings: dict[str, Any]) -> None:
    """Dimension, prompt, precision of the vectors, loading and pooling."""
    assert _fingerprint(tiny, **settings) != _fingerprint(tiny)


def test_truncated_vectors_are_not_normalised_by_the_model(tiny: Path) -> None:
    """What is cut after the model's own normalising has to be normalised again to be of length 1."""
    plain, normal = ({"truncate_dim": 8, "normalize_embeddings": choice} for choice in (False, True))
    assert _fingerprint(tiny, encode_kwargs=plain) != _fingerprint(tiny, encode_kwargs=normal)


def test_normalising_counts_where_the_model_does_not(tiny: Path) -> None:
    """Without a module that normalises, the setting makes other vectors."""
    modules = json.loads((tiny / "modules.json").read_text())
    (tiny / "modules.json").write_text(json.dumps(modules[:2]))
    assert _fingerprint(tiny, encode_kwargs={"normalize_embeddings": True}) != _fingerprint(tiny)


@pytest.mark.parametrize(
    ("saved", "given", "name"),
    [
        ({}, None, None),
        ({"query": "q: "}, None, None),
        ({"passage": "p: "}, None, "passage"),
        ({"corpus": "c: ", "passage": "p: "}, None, "passage"),
        ({"query": "", "document": "", "passage": "p: "}, None, "passage"),
        ({"document": "d: ", "passage": "p: "}, None, "document"),
        ({"passage": "p: "}, {"document": ""}, "document"),
        ({"document": "d: "}, {"corpus": "c: "}, "corpus"),
    ],
)
def test_the_prompt_that_is_meant(
    tiny: Path, saved: dict[str, str], given: dict[str, str] | None, name: str | None
) -> None:
    """An empty saved prompt states nothing, since sentence-transformers saves one itself; a given one does."""
    edit_json(tiny / "config_sentence_transformers.json", prompts=saved)
    checkpoint = Checkpoint.read(tiny)
    assert document_prompt_name(checkpoint, {"prompts": given}) == name
    text = {**saved, **(given or {})}.get(name, "") if name else ""
    assert prompt_for("document", checkpoint, {"prompts": given}, {}) == text


def test_a_prompt_of_the_call_comes_first(tmp_path: Path) -> None:
    """`prompt` and `prompt_name` in the encode kwargs win over what is saved."""
    prompts = {"document": "d: ", "code": "c: "}
    checkpoint = Checkpoint.read(checkpoints.sentence_transformer(tmp_path / "tiny", prompts=prompts))
    assert prompt_for("document", checkpoint, {}, {"prompt_name": "code"}) == "c: "
    assert prompt_for("document", checkpoint, {}, {"prompt": "x: ", "prompt_name": "code"}) == "x: "
