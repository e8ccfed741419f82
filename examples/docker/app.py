"""The smallest application: says which of a few notices answers the question that follows its name."""

from __future__ import annotations

import sys

from langchain_core.vectorstores import InMemoryVectorStore

from langchain_localhf import HuggingFaceEmbeddings

NOTICES = [
    "Bread is baked before sunrise, and sold from seven.",
    "The harbour lies to the north, behind the old lighthouse.",
    "The library closes at six in winter.",
]

store = InMemoryVectorStore.from_texts(NOTICES, HuggingFaceEmbeddings(model_name="all-MiniLM-L6-v2"))
[best] = store.similarity_search(" ".join(sys.argv[1:]) or "Where do the ships lie?", k=1)
print(best.page_content)
