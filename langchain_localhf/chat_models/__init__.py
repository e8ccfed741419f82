"""A chat model for LangChain from a model that is already on this machine."""

from __future__ import annotations

from langchain_localhf.chat_models.chat import ChatHuggingFace

__all__ = ["ChatHuggingFace"]
