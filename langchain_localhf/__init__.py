"""LangChain with Hugging Face models that are already on this machine: offline, sound, the same vectors, fast, drop-in.

Everything here is loaded when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from langchain_localhf.chat_models import ChatHuggingFace
    from langchain_localhf.cross_encoders import HuggingFaceCrossEncoder
    from langchain_localhf.document_compressors import CrossEncoderReranker
    from langchain_localhf.embeddings import (
        CLIPEmbeddings,
        HuggingFaceEmbeddings,
        LocalHFServerEmbeddings,
        SentenceTransformerEmbeddings,
    )
    from langchain_localhf.errors import LocalHFError
    from langchain_localhf.llms import HuggingFacePipeline
    from langchain_localhf.provisioning import pull

__all__ = [
    "CLIPEmbeddings",
    "ChatHuggingFace",
    "CrossEncoderReranker",
    "HuggingFaceCrossEncoder",
    "HuggingFaceEmbeddings",
    "HuggingFacePipeline",
    "LocalHFError",
    "LocalHFServerEmbeddings",
    "SentenceTransformerEmbeddings",
    "pull",
]

_HOME_OF = {
    "CLIPEmbeddings": "embeddings",
    "ChatHuggingFace": "chat_models",
    "CrossEncoderReranker": "document_compressors",
    "HuggingFaceCrossEncoder": "cross_encoders",
    "HuggingFaceEmbeddings": "embeddings",
    "HuggingFacePipeline": "llms",
    "LocalHFError": "errors",
    "LocalHFServerEmbeddings": "embeddings",
    "SentenceTransformerEmbeddings": "embeddings",
    "pull": "provisioning",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - reads files; only who asks pays for it

        return version("langchain-localhf")
    if name in _HOME_OF:
        return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)


def __dir__() -> list[str]:
    return sorted(__all__)
