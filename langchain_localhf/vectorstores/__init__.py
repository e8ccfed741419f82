"""Vector stores for LangChain that know which model filled them.

`Chroma` is `langchain_chroma.Chroma` with a fingerprint; `LocalHFEmbeddingFunction` is the same model for Chroma's own
client.
"""

from __future__ import annotations

from langchain_localhf.errors import EngineNotInstalledError

try:
    from langchain_localhf.vectorstores.chroma import Chroma
    from langchain_localhf.vectorstores.embedding_function import LocalHFEmbeddingFunction
except ModuleNotFoundError as error:
    if error.name not in ("chromadb", "langchain_chroma"):
        raise
    msg = f"the vector store Chroma needs {error.name}, which is not installed"
    raise EngineNotInstalledError(msg, hint='pip install "langchain-localhf[chroma]"') from error

__all__ = ["Chroma", "LocalHFEmbeddingFunction"]
