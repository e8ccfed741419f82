"""LangChain's own tests of a vector store, with their embeddings, which have no fingerprint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from langchain_localhf.vectorstores import Chroma

if TYPE_CHECKING:
    import chromadb
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore

    from langchain_localhf import HuggingFaceEmbeddings


class TestWithoutFingerprint(VectorStoreIntegrationTests):
    """Embeddings of another kind."""

    @pytest.fixture
    def vectorstore(self, client: chromadb.ClientAPI) -> VectorStore:
        return Chroma("standard", self.get_embeddings(), client=client)


class TestWithFingerprint(VectorStoreIntegrationTests):
    """The same with a stamp, so that what is there is not embedded again."""

    @pytest.fixture
    def vectorstore(self, client: chromadb.ClientAPI, embeddings: HuggingFaceEmbeddings) -> VectorStore:
        # The tests need embeddings that tell any two words apart; the tiny model knows few.
        return Chroma("standard", _Stamped(self.get_embeddings(), embeddings.fingerprint), client=client)


class _Stamped:
    def __init__(self, embeddings: Embeddings, fingerprint: str) -> None:
        self.embed_documents = embeddings.embed_documents
        self.embed_query = embeddings.embed_query
        self.fingerprint = fingerprint
