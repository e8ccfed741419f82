"""Fills a persistent Chroma with real text, answers questions from it, and counts what went over the network.

Run by `make demo`. A second run opens the same collection and embeds nothing again.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

connections: list[str] = []


def count_connections(event: str, arguments: tuple[Any, ...]) -> None:
    """Notes every name that is looked up and every address that is connected to."""
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        connections.append(f"{event} {arguments}")


sys.addaudithook(count_connections)

started = time.perf_counter()

from langchain_core.documents import Document  # noqa: E402 - the clock and the counter start before the imports
from langchain_text_splitters import RecursiveCharacterTextSplitter  # noqa: E402

from langchain_localhf import HuggingFaceEmbeddings  # noqa: E402
from langchain_localhf.vectorstores import Chroma  # noqa: E402

TEXTS = Path(__file__).parent / "state_of_the_union"
DATABASE = Path("demo-db")
QUESTIONS = (
    "What are the four freedoms?",
    "Will we send a man to the moon?",
    "Should slave owners be paid when slaves are freed?",
    "What happened to the Berlin Wall?",
    "How will the budget be balanced?",
)


class CountingEmbeddings(HuggingFaceEmbeddings):
    """Counts the documents that are embedded."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Embeds and counts."""
        embedded.extend(texts)
        return super().embed_documents(texts)


embedded: list[str] = []

documents = [
    Document(path.read_text(encoding="utf-8"), metadata={"source": path.stem}) for path in sorted(TEXTS.glob("*.txt"))
]
chunks = RecursiveCharacterTextSplitter(chunk_size=1000, chunk_overlap=0).split_documents(documents)
embeddings = CountingEmbeddings(model_name="all-MiniLM-L6-v2", show_progress=True)
loaded = time.perf_counter()
print(f"model         {embeddings.model_name}, {embeddings.dimension} dimensions, {embeddings.fingerprint[:12]}")
embedded.clear()

db = Chroma.from_documents(
    chunks, embeddings, persist_directory=str(DATABASE), collection_configuration={"hnsw": {"space": "cosine"}}
)
filled = time.perf_counter()
embeddings.show_progress = False  # no bar for a single question
print(f"collection    {DATABASE}/, {len(chunks)} chunks of {len(documents)} documents, {len(embedded)} embedded now")

for question in QUESTIONS:
    print(f"\n? {question}")
    for document, score in db.similarity_search_with_relevance_scores(question, k=2):
        passage = " ".join(document.page_content.split())
        print(f"  {score:.3f}  {document.metadata['source']}: {passage[:150]}…")
answered = time.perf_counter()

print(f"\nload          {loaded - started:6.2f} s   imports, model, verification")
print(f"fill          {filled - loaded:6.2f} s")
print(f"answer        {(answered - filled) / len(QUESTIONS):6.3f} s   per question")
print(f"network       {len(connections)} connections")
sys.exit(1 if connections else 0)
