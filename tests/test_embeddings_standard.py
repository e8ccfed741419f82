"""LangChain's own standard suites, with the real all-MiniLM-L6-v2."""

from __future__ import annotations

from typing import Any

from langchain_tests.integration_tests import EmbeddingsIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests
from support import compiled
from support.checkpoints import minilm_folder

from langchain_localhf import HuggingFaceEmbeddings


class TestUnit(EmbeddingsUnitTests):
    """What every embeddings class of LangChain must do without calling a model."""

    @property
    def embeddings_class(self) -> type[HuggingFaceEmbeddings]:
        return HuggingFaceEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": str(minilm_folder())}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        """The store can be named by the environment; an unrelated one must not matter to a model in a folder."""
        return {"LOCALHF_HOME": "/nowhere"}, self.embedding_model_params, {"model_name": str(minilm_folder())}


class TestIntegration(EmbeddingsIntegrationTests):
    """What every embeddings class of LangChain must do with a model."""

    @property
    def embeddings_class(self) -> type[HuggingFaceEmbeddings]:
        return HuggingFaceEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": str(minilm_folder())}


class TestIntegrationOnOpenVINO(TestIntegration):
    """The same with the compiled graph."""

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": str(compiled.minilm().folder), "backend": "openvino"}
