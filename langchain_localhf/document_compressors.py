"""Reranks the documents that a retriever found, with any cross-encoder.

Drop-in for `langchain_classic.retrievers.document_compressors.CrossEncoderReranker`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from langchain_core.cross_encoders import BaseCrossEncoder  # noqa: TC002 - pydantic reads the annotation
from langchain_core.documents import Document
from langchain_core.documents.compressor import BaseDocumentCompressor
from pydantic import ConfigDict, Field

from langchain_localhf.errors import CheckpointError, InputError
from langchain_localhf.texts import check_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from langchain_core.callbacks import Callbacks

RELEVANCE_SCORE = "relevance_score"


class CrossEncoderReranker(BaseDocumentCompressor):
    """Puts the documents that answer a query best first, and drops the others.

    ```python
    from langchain_localhf import CrossEncoderReranker, HuggingFaceCrossEncoder

    reranker = CrossEncoderReranker(model=HuggingFaceCrossEncoder(model_name="BAAI/bge-reranker-base"), top_n=3)
    best = reranker.compress_documents(retriever.invoke(query), query)
    ```

    Each document comes back as a copy with its own id and metadata, and with its score in
    `metadata["relevance_score"]`.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    model: BaseCrossEncoder
    """What scores the documents."""
    top_n: int | None = Field(default=3, gt=0)
    """How many documents come back at most; None for all."""
    score_threshold: float | None = Field(default=None, allow_inf_nan=False)
    """The lowest score with which a document comes back; None for any. Scores of different models do not compare."""

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002 - LangChain's interface; scoring has no steps to report
    ) -> list[Document]:
        """Reranks documents.

        Args:
            documents: The documents; none is changed.
            query: What they should answer.
            callbacks: Accepted and not called.

        Returns:
            Copies, the best first; those with equal scores in the order in which they came.

        Raises:
            InputError: The query is no text, an item is no document, or its text cannot be read; the error names its
                index.
            CheckpointError: The model gives no number for a document.
        """
        check_text(query, "the query", None)
        documents = _checked_documents(documents)
        if not documents:
            return []
        scored = zip(self._scores(documents, query), documents, strict=True)
        best_first = sorted(scored, key=lambda pair: pair[0], reverse=True)
        kept = [pair for pair in best_first if self.score_threshold is None or pair[0] >= self.score_threshold]
        return [_with_score(document, score) for score, document in kept[: self.top_n]]

    def _scores(self, documents: list[Document], query: str) -> list[float]:
        scores = [float(score) for score in self.model.score([(query, one.page_content) for one in documents])]
        if len(scores) != len(documents):
            msg = f"the model gives {len(scores)} scores for {len(documents)} documents"
            raise CheckpointError(msg, hint="score() has to return one number a pair, in the order of the pairs")
        for index, score in enumerate(scores):
            if math.isnan(score):
                msg = f"the model gives no score (NaN) for documents[{index}]"
                raise CheckpointError(msg, hint="if the model runs in half precision, load it in float32")
        return scores


def _checked_documents(documents: object) -> list[Document]:
    # A document is an iterable, too: of its fields.
    if isinstance(documents, (str, Document, Mapping)) or not isinstance(documents, Iterable):
        msg = f"compress_documents takes a list of documents, not {type(documents).__name__}"
        raise InputError(msg, hint="put a single document into a list")
    checked = list(documents)
    for index, document in enumerate(checked):
        if not isinstance(document, Document):
            msg = f"documents[{index}] is {type(document).__name__}; expected Document"
            raise InputError(msg, index=index, hint="make one of a text: Document(page_content=text)")
    return checked


def _with_score(document: Document, score: float) -> Document:
    return document.model_copy(update={"metadata": {**document.metadata, RELEVANCE_SCORE: score}})
