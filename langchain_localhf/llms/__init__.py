"""Language models for LangChain: a text in, a text out."""

from langchain_localhf.llms.pipeline import HuggingFacePipeline

__all__ = ["HuggingFacePipeline"]
