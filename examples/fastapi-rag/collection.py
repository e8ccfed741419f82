"""The collection that `index.py` fills and `app.py` searches; two environment variables say which one it is."""

from __future__ import annotations

import os

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.vectorstores import Chroma

EMBEDDING_MODEL = os.environ.get("EMBEDDING_MODEL", "all-MiniLM-L6-v2")
DATABASE = os.environ.get("DATABASE", "db")


def opened(*, show_progress: bool = False) -> Chroma:
    """Opens the collection, and makes it if there is none; one that another model filled is refused."""
    return Chroma(
        "passages",
        HuggingFaceEmbeddings(model_name=EMBEDDING_MODEL, show_progress=show_progress),
        persist_directory=DATABASE,
        collection_configuration={"hnsw": {"space": "cosine"}},
    )
