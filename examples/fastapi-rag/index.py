"""Fills the collection from the texts of a folder; what is in it already is not embedded again.

python index.py ../state_of_the_union
"""

from __future__ import annotations

import sys
from pathlib import Path

from collection import DATABASE, opened
from langchain_core.documents import Document
from langchain_text_splitters import RecursiveCharacterTextSplitter

from langchain_localhf.errors import LocalHFError


def main(folder: Path) -> None:
    """Cuts every text into passages, and adds these."""
    documents = [
        Document(path.read_text(encoding="utf-8"), metadata={"source": path.relative_to(folder).as_posix()})
        for path in sorted(folder.rglob("*.txt"))
    ]
    if not documents:
        sys.exit(f"error: there is no .txt in {folder}")
    passages = RecursiveCharacterTextSplitter(chunk_size=800, chunk_overlap=100).split_documents(documents)
    try:
        opened(show_progress=True).add_documents(passages)
    except LocalHFError as error:
        sys.exit(f"error: {error}")
    print(f"{len(passages)} passages of {len(documents)} texts are in {DATABASE}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "texts"))
