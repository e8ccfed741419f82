"""The fields of the embeddings class: what is accepted, and what reaches sentence-transformers."""

from __future__ import annotations

import copy
import re
import shutil
from typing import TYPE_CHECKING, Any

import langchain_huggingface
import pytest
from pydantic import ValidationError
from sentence_transformers import SentenceTransformer
from support import checkpoints
from support.spies import watch

from langchain_localhf import HuggingFaceEmbeddings, SentenceTransformerEmbeddings
from langchain_localhf.errors import (
    EngineError,
    InputError,
    ModelNotFoundError,
    ModelReferenceError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    from pathlib import Path


def make(folder: Path, **fields: Any) -> HuggingFaceEmbeddings:
    """The embeddings of a model in a folder."""
    return HuggingFaceEmbeddings(model_name=str(folder), **fields)


class TestFields:
    """Which settings the constructor takes."""

    def test_fields_of_langchain_huggingface(self) -> None:
        """Every field of `langchain_huggingface` is there, with the same default and the same alias."""
        ours = HuggingFaceEmbeddings.model_fields
        for name, field in langchain_huggingface.HuggingFaceEmbeddings.model_fields.items():
            assert (ours[name].get_default(call_default_factory=True), ours[name].alias) == (
                field.get_default(call_default_factory=True),
                field.alias,
            )

    @pytest.mark.parametrize("name", ["model", "model_name"])
    def test_two_names_for_the_model(self, tiny: Path, name: str) -> None:
        """The model is called `model` or `model_name`."""
        assert HuggingFaceEmbeddings(**{name: str(tiny)}).model_name == str(tiny)

    def test_alias(self) -> None:
        """`SentenceTransformerEmbeddings` is the same class, as in langchain_community."""
        assert SentenceTransformerEmbeddings is HuggingFaceEmbeddings

    def test_misspelt_field_is_refused(self, tiny: Path) -> None:
        """A misspelt field is an error, not a setting that does nothing."""
        with pytest.raises(ValidationError, match="encode_kwarg\n  Extra inputs are not permitted"):
            make(tiny, encode_kwarg={})

    def test_model_is_given_by_name(self, tiny: Path) -> None:
        """A positional argument is a TypeError, as in langchain_huggingface."""
        with pytest.raises(TypeError, match="positional"):
            HuggingFaceEmbeddings(str(tiny))  # type: ignore[call-arg]

    @pytest.mark.parametrize("construct", [lambda f: HuggingFaceEmbeddings(**f), HuggingFaceEmbeddings.model_validate])
    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({"model": "no such name"}, ModelReferenceError),
            ({"model": "org/missing"}, ModelNotFoundError),
            ({"model": "org/missing", "encode_kwargs": {"precision": "int8"}}, InputError),
        ],
    )
    def test_errors_keep_their_class(self, construct: Any, fields: dict[str, Any], error: type[Exception]) -> None:
        """The package's errors are not wrapped in a pydantic error, whichever way an object is made."""
        with pytest.raises(error) as caught:
            construct(fields)
        assert type(caught.value) is error

    def test_model_validate_reports_misspelt_fields(self) -> None:
        """Pydantic's own errors stay pydantic's."""
        with pytest.raises(ValidationError, match="modell"):
            HuggingFaceEmbeddings.model_validate({"modell": "x"})

    def test_what_loaded_the_model_is_frozen(self, tiny: Path) -> None:
        """A field that the loaded model was made with cannot be changed afterwards; others can."""
        embeddings = make(tiny)
        for name in ("model_name", "cache_folder", "model_kwargs", "pooling"):
            with pytest.raises(ValidationError, match="frozen"):
                setattr(embeddings, name, None)
        embeddings.encode_kwargs = {"truncate_dim": 8}
        assert len(embeddings.embed_query("a city")) == 8

    def test_settings_assigned_later_are_checked_too(self, tiny: Path) -> None:
        """An unsound setting is refused when it is used, if it came after the construction."""
        embeddings = make(tiny)
        embeddings.encode_kwargs = {"precision": "uint8"}
        with pytest.raises(InputError, match="uint8"):
            embeddings.embed_documents(["a city"])

    def test_repr_and_dump_show_the_settings_only(self, tiny: Path) -> None:
        """`repr` fits a few lines and shows no weights; a dump makes an equal object."""
        embeddings = make(tiny, encode_kwargs={"batch_size": 4})
        assert len(repr(embeddings)) < 400 + len(str(tiny))
        assert "tensor" not in repr(embeddings)
        assert HuggingFaceEmbeddings(**embeddings.model_dump()) == embeddings

    def test_cache_folder(self, tiny: Path, tmp_path: Path) -> None:
        """A model is found in the Hugging Face cache that `cache_folder` names."""
        repository = tmp_path / "cache" / "models--org--tiny"
        commit = "0123456789abcdef0123456789abcdef01234567"
        shutil.copytree(tiny, repository / "snapshots" / commit)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(commit)
        cached = HuggingFaceEmbeddings(model="org/tiny", cache_folder=str(tmp_path / "cache"))
        assert cached.embed_query("a city") == make(tiny).embed_query("a city")

    def test_pooling_of_a_plain_checkpoint(self, tmp_path: Path) -> None:
        """`pooling` states how a plain transformer checkpoint makes one vector of its token vectors."""
        folder = checkpoints.plain(tmp_path / "plain")
        assert make(folder, pooling="cls").embed_query("a city") != make(folder, pooling="mean").embed_query("a city")


class TestModelKwargs:
    """What reaches `SentenceTransformer(...)`."""

    @pytest.mark.parametrize(
        "model_kwargs",
        [
            {"device": "cpu", "trust_remote_code": True},
            {"truncate_dim": 8, "similarity_fn_name": "dot"},
            {"prompts": {"query": "q: ", "document": "d: "}, "default_prompt_name": "query"},
            {"model_kwargs": {"dtype": "float32", "attn_implementation": "eager"}},
            {"processor_kwargs": {"model_max_length": 16}, "config_kwargs": {"hidden_dropout_prob": 0.5}},
            {"tokenizer_kwargs": {"model_max_length": 16}},
        ],
        ids="-".join,
    )
    def test_reach_the_model_untouched(
        self, tiny: Path, monkeypatch: pytest.MonkeyPatch, model_kwargs: dict[str, Any]
    ) -> None:
        """`SentenceTransformer(...)` gets each setting as it was written, and the user's dictionary stays as it was."""
        calls = watch(monkeypatch, "__init__")
        written = copy.deepcopy(model_kwargs)
        embeddings = make(tiny, model_kwargs=model_kwargs)
        (got,) = calls.settings
        assert {name: got[name] for name in written} == written
        assert model_kwargs == written == embeddings.model_kwargs

    def test_settings_take_effect(self, tiny: Path) -> None:
        """The maximum length and the dimension follow the settings."""
        embeddings = make(tiny, model_kwargs={"processor_kwargs": {"model_max_length": 16}, "truncate_dim": 8})
        assert (embeddings.max_seq_length, embeddings.dimension) == (16, 8)

    def test_unknown_backend_is_refused(self, tiny: Path) -> None:
        """A backend without an engine is refused by name."""
        with pytest.raises(UnsupportedModelError, match="'ipex'"):
            make(tiny, model_kwargs={"backend": "ipex"})

    def test_unknown_setting_is_refused(self, tiny: Path) -> None:
        """A setting that sentence-transformers does not know is an error that names it."""
        with pytest.raises((TypeError, EngineError), match="devise"):
            make(tiny, model_kwargs={"devise": "cpu"})


class TestEncodeKwargs:
    """What reaches `SentenceTransformer.encode`."""

    def test_reach_encode(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each setting reaches encode as it was written, for queries too, and the user's dictionary stays as it was."""
        encode_kwargs = {
            "batch_size": 3,
            "normalize_embeddings": True,
            "processing_kwargs": {"text": {"max_length": 8}},
        }
        written = copy.deepcopy(encode_kwargs)
        embeddings = make(tiny, encode_kwargs=encode_kwargs)
        calls = watch(monkeypatch, "encode")
        embeddings.embed_documents(["a city", "a river"])
        embeddings.embed_query("a city")
        for got in calls.settings:
            assert {name: got[name] for name in written} == written
        assert encode_kwargs == written == embeddings.encode_kwargs

    def test_query_encode_kwargs_are_merged_over_encode_kwargs(
        self, tiny: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A query keeps the settings of documents that its own do not replace; documents see none of a query."""
        embeddings = make(
            tiny,
            encode_kwargs={"normalize_embeddings": True, "truncate_dim": 8},
            query_encode_kwargs={"truncate_dim": 4},
        )
        calls = watch(monkeypatch, "encode")
        embeddings.embed_query("a city")
        embeddings.embed_documents(["a city"])
        got = [(call["normalize_embeddings"], call["truncate_dim"]) for call in calls.settings]
        assert got == [(True, 4), (True, 8)]

    def test_way_through_the_model(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Queries are encoded as queries and documents as documents."""
        embeddings = make(tiny)
        calls = watch(monkeypatch, "encode")
        embeddings.embed_query("a city")
        embeddings.embed_documents(["a city"])
        assert [call["task"] for call in calls.settings] == ["query", "document"]

    @pytest.mark.parametrize("precision", ["int8", "uint8"])
    @pytest.mark.parametrize("field", ["encode_kwargs", "query_encode_kwargs"])
    def test_batch_dependent_precision_is_refused(self, tiny: Path, field: str, precision: str) -> None:
        """A precision that scales a vector by the others in its batch is refused, with the reason."""
        with pytest.raises(InputError, match=re.escape(f"{precision!r} scales a vector by the others in its batch")):
            make(tiny, **{field: {"precision": precision}})

    @pytest.mark.parametrize("precision", ["binary", "ubinary"])
    def test_binary_precision_gives_floats(self, tiny: Path, precision: str) -> None:
        """Eight dimensions share a number, which is a float, as LangChain promises; `dimension` counts the numbers."""
        embeddings = make(tiny, encode_kwargs={"precision": precision})
        vector = embeddings.embed_query("a city")
        own = SentenceTransformer(str(tiny), device="cpu").encode("a city", precision=precision)
        assert vector == own.tolist()
        assert {type(number) for number in vector} == {float}
        assert embeddings.dimension == len(vector) == checkpoints.DIMENSION // 8

    @pytest.mark.parametrize("field", ["model_kwargs", "encode_kwargs"])
    def test_dimension_follows_truncation(self, tiny: Path, field: str) -> None:
        """`dimension` is the length of a vector with these settings."""
        embeddings = make(tiny, **{field: {"truncate_dim": 8}})
        assert embeddings.dimension == len(embeddings.embed_query("a city")) == 8

    def test_output_that_is_no_vector_is_refused(self, tiny: Path) -> None:
        """Asking for token vectors is refused: LangChain has no place for them."""
        with pytest.raises(UnsupportedModelError, match="one vector a text"):
            make(tiny, encode_kwargs={"output_value": "token_embeddings"}).embed_documents(["a city"])
