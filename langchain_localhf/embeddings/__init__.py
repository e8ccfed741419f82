"""Embeddings for LangChain: of texts, of texts and images in one space, and from a server of this package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_localhf.embeddings.huggingface import HuggingFaceEmbeddings, SentenceTransformerEmbeddings

if TYPE_CHECKING:
    from langchain_localhf.embeddings.clip import CLIPEmbeddings
    from langchain_localhf.embeddings.server import LocalHFServerEmbeddings

__all__ = ["CLIPEmbeddings", "HuggingFaceEmbeddings", "LocalHFServerEmbeddings", "SentenceTransformerEmbeddings"]


def __getattr__(name: str) -> object:
    if name == "CLIPEmbeddings":
        from langchain_localhf.embeddings.clip import CLIPEmbeddings  # noqa: PLC0415 - needs Pillow; texts do not

        return CLIPEmbeddings
    if name == "LocalHFServerEmbeddings":
        from langchain_localhf.embeddings.server import LocalHFServerEmbeddings  # noqa: PLC0415 - needs an HTTP client

        return LocalHFServerEmbeddings
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
