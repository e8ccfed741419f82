"""Says which of a few notices answers a question, or why the model that was carried here cannot be used.

LOCALHF_HOME=carry/models python carry/answer.py "Where do the ships lie?"
"""

from __future__ import annotations

import sys

from langchain_core.vectorstores import InMemoryVectorStore

from langchain_localhf import HuggingFaceEmbeddings
from langchain_localhf.errors import LocalHFError

NOTICES = [
    "Bread is baked before sunrise, and sold from seven.",
    "The harbour lies to the north, behind the old lighthouse.",
    "The library closes at six in winter.",
]

try:
    store = InMemoryVectorStore.from_texts(NOTICES, HuggingFaceEmbeddings(model_name="all-MiniLM-L6-v2"))
    [best] = store.similarity_search(" ".join(sys.argv[1:]) or "Where do the ships lie?", k=1)
except LocalHFError as error:
    sys.exit(f"error: {error}")
print(best.page_content)
