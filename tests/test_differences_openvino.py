"""Every deliberate difference with OpenVINO; shown on both sides where that needs no optimum-intel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import langchain_huggingface
import pytest
from pydantic import ValidationError
from support import compiled, language_models, openvino_models
from support.tables import Table

from langchain_localhf import HuggingFaceEmbeddings, HuggingFacePipeline
from langchain_localhf.errors import InputError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

TABLE = Table("differences.md", "OpenVINO")


def graph(**fields: Any) -> HuggingFaceEmbeddings:
    """The tiny embedding model, which is compiled."""
    return HuggingFaceEmbeddings(model_name=str(compiled.tiny().folder), **fields)


def engine(embeddings: HuggingFaceEmbeddings) -> str:
    """What runs them."""
    return type(embeddings._model.encoder).__name__


def generator(model: Path, **model_kwargs: Any) -> HuggingFacePipeline:
    """A language model on OpenVINO."""
    return HuggingFacePipeline.from_model_id(
        str(model), "text-generation", backend="openvino", model_kwargs=model_kwargs
    )


def test_each_row_has_one_test() -> None:
    """The page and this module list the same differences, in the same order, each once."""
    TABLE.check()


@TABLE.row("`backend` of embeddings")
def test_backend_is_a_field(tiny: Path) -> None:
    """Both ways mean the same."""
    with pytest.raises(ValidationError, match="backend"):
        langchain_huggingface.HuggingFaceEmbeddings(model_name=str(tiny), backend="torch")
    assert engine(graph()) == engine(graph(backend="openvino")) == "OpenVINOEncoder"
    assert engine(graph(model_kwargs={"backend": "openvino"})) == "OpenVINOEncoder"
    assert engine(graph(backend="torch")) == engine(HuggingFaceEmbeddings(model_name=str(tiny))) == "TorchEncoder"


@TABLE.row('an embedding model that is not compiled, with `backend="openvino"`')
def test_no_export_of_embeddings(tiny: Path) -> None:
    """There it asks for the exporter, which is not installed here."""
    settings = {"model_kwargs": {"backend": "openvino"}}
    with pytest.raises(Exception, match=r"(?i)optimum"):
        langchain_huggingface.HuggingFaceEmbeddings(model_name=str(tiny), **settings)
    with pytest.raises(UnsupportedModelError, match="localhf compile"):
        HuggingFaceEmbeddings(model_name=str(tiny), **settings)


@TABLE.row('a language model that is not exported, with `backend="openvino"`')
def test_no_export_of_language_models() -> None:
    """There it asks for the exporter, which is not installed here."""
    folder = language_models.folder("gpt2")
    with pytest.raises(ImportError, match="optimum"):
        langchain_huggingface.HuggingFacePipeline.from_model_id(str(folder), "text-generation", backend="openvino")
    with pytest.raises(UnsupportedModelError, match="localhf compile"):
        generator(folder)


@TABLE.row("`tokenizer_kwargs`, `config_kwargs` and the like, with a graph")
@pytest.mark.parametrize("name", ["tokenizer_kwargs", "config_kwargs", "processor_kwargs"])
def test_settings_that_went_into_the_graph(name: str) -> None:
    """What is asked for counts, and nothing is dropped in silence."""
    settings = {"model_kwargs": {name: {}}}
    assert engine(graph(**settings)) == "TorchEncoder"
    with pytest.raises(InputError, match=name):
        graph(backend="openvino", **settings)


@TABLE.row("`encode_kwargs` that reach into the model's modules")
def test_settings_of_modules() -> None:
    """There are none behind a graph."""
    embeddings = graph(encode_kwargs={"task": "retrieval"})
    with pytest.raises(InputError, match="task='retrieval'"):
        embeddings.embed_query("a city")


@TABLE.row("an unknown name in `model_kwargs` of a language model on OpenVINO")
def test_misspelt_setting(tmp_path: Path) -> None:
    """It is refused before anything is looked for."""
    with pytest.raises(InputError, match="did you mean ov_config"):
        generator(tmp_path, ov_confg={"PERFORMANCE_HINT": "LATENCY"})


@TABLE.row("a wrong key in `ov_config` of a language model")
def test_wrong_key(tmp_path: Path) -> None:
    """It is named, though there is no model at all."""
    with pytest.raises(InputError, match="NOPE"):
        generator(tmp_path, ov_config={"NOPE": "1"})


def test_same_text() -> None:
    """What does not differ: with exact arithmetic, the engines write the same text."""
    exact = generator(openvino_models.folder("gpt2"), ov_config=openvino_models.EXACT)
    torch = HuggingFacePipeline.from_model_id(str(language_models.folder("gpt2")), "text-generation")
    assert exact.invoke("The quick", max_new_tokens=16) == torch.invoke("The quick", max_new_tokens=16)
