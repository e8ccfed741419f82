"""The smallest application: embeds the text that it is given and prints the vector's first numbers."""

from __future__ import annotations

import sys

from langchain_localhf import HuggingFaceEmbeddings

embeddings = HuggingFaceEmbeddings(model_name="all-MiniLM-L6-v2")
vector = embeddings.embed_query(" ".join(sys.argv[1:]) or "hello")
print(f"{len(vector)} dimensions: {vector[:4]}")
