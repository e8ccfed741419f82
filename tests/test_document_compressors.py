"""The reranker: the best documents first, as they were, with their scores."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker as ClassicReranker
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda, RunnableParallel, RunnablePassthrough
from pydantic import ValidationError
from support import checkpoints, community, compiled

from langchain_localhf import CrossEncoderReranker, HuggingFaceCrossEncoder, HuggingFaceEmbeddings
from langchain_localhf.errors import CheckpointError, InputError
from langchain_localhf.vectorstores import Chroma

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

QUERY = "where is the river"
TEXTS = ["the harbour", "a river to the city", "tax filings are due", "", "winter in the city", "a bridge " * 60]
DOCUMENTS = [
    Document(page_content=text, id=f"document-{place}", metadata={"place": place, "tags": ["a"]})
    for place, text in enumerate(TEXTS)
]


class Stated(BaseCrossEncoder):
    """A cross-encoder of somebody else: its scores are the texts themselves, in whatever form it likes."""

    def __init__(self, form: Any = list) -> None:
        self.form = form

    def score(self, text_pairs: list[tuple[str, str]]) -> Any:
        """The second text of each pair, as a number."""
        return self.form(float(text) for _, text in text_pairs)


def stated(*scores: float) -> list[Document]:
    """Documents that `Stated` gives these scores."""
    return [Document(page_content=str(score), metadata={"place": place}) for place, score in enumerate(scores)]


def places(documents: Sequence[Document]) -> list[int]:
    """Where each document stood before."""
    return [document.metadata["place"] for document in documents]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceCrossEncoder:
    """A tiny cross-encoder; do not close it."""
    folder = checkpoints.cross_encoder(tmp_path_factory.mktemp("reranker") / "tiny")
    return HuggingFaceCrossEncoder(model_name=str(folder), model_kwargs={"device": "cpu"})


@pytest.fixture
def store(tiny: Path) -> Iterator[Chroma]:
    """A collection with the documents."""
    store = Chroma("reranked", HuggingFaceEmbeddings(model_name=str(tiny)))
    store.add_texts([one.page_content for one in DOCUMENTS], [{"place": place} for place in range(len(TEXTS))])
    yield store
    store.delete_collection()


class TestRanking:
    """Which documents come back, and in which order."""

    def test_order_of_langchain_classic(self, model: HuggingFaceCrossEncoder) -> None:
        """The same fields give the same documents as the class that is replaced, three if nothing is said."""
        assert CrossEncoderReranker.model_fields["top_n"].default == ClassicReranker.model_fields["top_n"].default == 3
        for fields in ({}, {"top_n": 1}, {"top_n": 100}):
            ours = CrossEncoderReranker(model=model, **fields).compress_documents(DOCUMENTS, QUERY)
            theirs = ClassicReranker(model=model, **fields).compress_documents(DOCUMENTS, QUERY)
            assert places(ours) == places(theirs)

    @pytest.mark.parametrize("backend", ["torch", "openvino"])
    def test_scores(self, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
        """Each document has the model's own score of it, on either engine; the highest comes first."""
        monkeypatch.setenv("LOCALHF_HOME", str(compiled.cross_encoder().folder.parents[1]))
        model = HuggingFaceCrossEncoder(model_name="org/tiny-cross-encoder", backend=backend)
        reranked = CrossEncoderReranker(model=model, top_n=None).compress_documents(DOCUMENTS, QUERY)
        scores = [document.metadata["relevance_score"] for document in reranked]
        expected = dict(enumerate(model.score([(QUERY, text) for text in TEXTS])))
        assert scores == sorted(expected.values(), reverse=True)
        assert dict(zip(places(reranked), scores, strict=True)) == expected
        assert {type(score) for score in scores} == {float}

    def test_all_of_them(self) -> None:
        """`top_n=None` drops none."""
        assert len(CrossEncoderReranker(model=Stated(), top_n=None).compress_documents(stated(*range(9)), QUERY)) == 9

    @pytest.mark.parametrize(("threshold", "kept"), [(None, [1, 2, 0]), (0.5, [1, 2]), (-9, [1, 2, 0]), (2, [])])
    def test_score_threshold(self, threshold: float | None, kept: list[int]) -> None:
        """What scores less does not come back; what scores just that does."""
        reranker = CrossEncoderReranker(model=Stated(), score_threshold=threshold)
        assert places(reranker.compress_documents(stated(-3, 1.5, 0.5), QUERY)) == kept

    def test_threshold_before_top_n(self) -> None:
        """Both hold."""
        reranker = CrossEncoderReranker(model=Stated(), score_threshold=1, top_n=2)
        assert places(reranker.compress_documents(stated(1, 2, 0, 3), QUERY)) == [3, 1]

    @given(st.lists(st.sampled_from([0.0, 0.5, 1.0, float("inf"), float("-inf")]), max_size=12))
    @settings(deadline=None)
    def test_ties(self, scores: list[float]) -> None:
        """Documents with equal scores keep the order in which they came, which is the retriever's."""
        reranked = CrossEncoderReranker(model=Stated(), top_n=None).compress_documents(stated(*scores), QUERY)
        assert places(reranked) == sorted(range(len(scores)), key=lambda place: (-scores[place], place))

    def test_no_documents(self) -> None:
        """The model is not asked."""
        assert CrossEncoderReranker(model=Stated(form=None)).compress_documents([], QUERY) == []

    @pytest.mark.parametrize("form", [list, tuple, iter])
    def test_any_cross_encoder(self, form: Any) -> None:
        """Also one that gives no list, as langchain_community's does for two labels."""
        reranked = CrossEncoderReranker(model=Stated(form)).compress_documents(stated(1, 2), QUERY)
        assert [one.metadata["relevance_score"] for one in reranked] == [2.0, 1.0]

    def test_the_class_of_langchain_community(self, model: HuggingFaceCrossEncoder) -> None:
        """It works here, and ours in langchain_classic's reranker (above); a package can be changed at a time."""
        theirs = community.cross_encoder(model.model_name)
        ours, other = (
            CrossEncoderReranker(model=one, top_n=None).compress_documents(DOCUMENTS, QUERY) for one in (model, theirs)
        )
        assert places(ours) == places(other)


class TestDocuments:
    """What becomes of a document."""

    def test_nothing_of_the_callers_is_changed(self, model: HuggingFaceCrossEncoder) -> None:
        """Copies come back, with their ids, texts and metadata; langchain_classic's class drops the score."""
        before = copy.deepcopy(DOCUMENTS)
        reranked = CrossEncoderReranker(model=model, top_n=None).compress_documents(DOCUMENTS, QUERY)
        assert before == DOCUMENTS
        for document in reranked:
            original = DOCUMENTS[document.metadata["place"]]
            assert document is not original
            assert document.metadata is not original.metadata
            assert (document.id, document.page_content) == (original.id, original.page_content)
            assert {**document.metadata, "relevance_score": None} == {**original.metadata, "relevance_score": None}

    def test_a_score_from_before_is_replaced(self) -> None:
        """A retriever's own `relevance_score` would be taken for the reranker's."""
        document = Document(page_content="0.25", metadata={"relevance_score": 0.9})
        (reranked,) = CrossEncoderReranker(model=Stated()).compress_documents([document], QUERY)
        assert (reranked.metadata, document.metadata) == ({"relevance_score": 0.25}, {"relevance_score": 0.9})

    def test_a_class_of_ones_own(self) -> None:
        """A subclass stays one."""

        class Page(Document):
            number: int = 0

        (reranked,) = CrossEncoderReranker(model=Stated()).compress_documents([Page(page_content="1", number=7)], QUERY)
        assert isinstance(reranked, Page)
        assert reranked.number == 7

    def test_equal_documents(self, model: HuggingFaceCrossEncoder) -> None:
        """Each comes back, with equal scores."""
        reranked = CrossEncoderReranker(model=model).compress_documents([DOCUMENTS[1], DOCUMENTS[1]], QUERY)
        assert [one.id for one in reranked] == ["document-1", "document-1"]
        assert reranked[0].metadata == reranked[1].metadata


class TestRefused:
    """What cannot be ranked."""

    @pytest.mark.parametrize(
        "fields",
        [
            {"top_n": 0},
            {"top_n": -1},
            {"score_threshold": float("nan")},
            {"topn": 3},
            {"model": "BAAI/bge-reranker-base"},
        ],
        ids=str,
    )
    def test_fields(self, fields: dict[str, Any]) -> None:
        """A misspelt field, and a value that nobody means, are pydantic's errors."""
        with pytest.raises(ValidationError, match=next(iter(fields))):
            CrossEncoderReranker(**{"model": Stated(), **fields})

    def test_nan(self) -> None:
        """It would sort anywhere and pass any threshold; langchain_classic returns it."""
        documents = stated(1, float("nan"), 2)
        assert 1 in places(ClassicReranker(model=Stated()).compress_documents(documents, QUERY))
        with pytest.raises(CheckpointError, match=r"\(NaN\) for documents\[1\]") as caught:
            CrossEncoderReranker(model=Stated()).compress_documents(documents, QUERY)
        assert caught.value.hint

    def test_not_one_score_a_document(self) -> None:
        """langchain_classic drops documents in silence."""
        short = Stated(form=lambda scores: list(scores)[1:])
        assert len(ClassicReranker(model=short).compress_documents(stated(1, 2), QUERY)) == 1
        with pytest.raises(CheckpointError, match="gives 1 scores for 2 documents"):
            CrossEncoderReranker(model=short).compress_documents(stated(1, 2), QUERY)

    @pytest.mark.parametrize("query", [None, 3, ["a"]])
    def test_a_query_that_is_no_text(self, query: Any) -> None:
        """The error says so, whatever the model."""
        with pytest.raises(InputError, match=f"the query is {type(query).__name__}"):
            CrossEncoderReranker(model=Stated()).compress_documents(stated(1), query)

    @pytest.mark.parametrize("item", ["a text", {"page_content": "a text"}, None])
    def test_no_document(self, item: Any) -> None:
        """An item that is none is named by its index; so is what is no list."""
        with pytest.raises(InputError, match=rf"documents\[1\] is {type(item).__name__}; expected Document") as caught:
            CrossEncoderReranker(model=Stated()).compress_documents([*stated(1), item], QUERY)
        assert caught.value.index == 1
        for alone in (stated(1)[0], "a text", None):
            with pytest.raises(InputError, match="a list of documents, not"):
                CrossEncoderReranker(model=Stated()).compress_documents(alone, QUERY)

    def test_half_a_character(self, model: HuggingFaceCrossEncoder) -> None:
        """The index is the document's."""
        documents = [DOCUMENTS[0], Document(page_content="\ud800")]
        with pytest.raises(InputError, match="lone surrogate") as caught:
            CrossEncoderReranker(model=model).compress_documents(documents, QUERY)
        assert caught.value.index == 1


class TestInLangChain:
    """Where the reranker is used."""

    async def test_compression_retriever(self, store: Chroma, model: HuggingFaceCrossEncoder) -> None:
        """It reranks what Chroma finds, for `invoke`, `ainvoke` and `batch`; callbacks see the retriever at work."""
        seen: list[str] = []

        class Handler(BaseCallbackHandler):
            def on_retriever_end(self, documents: Sequence[Document], **kwargs: Any) -> None:
                seen.append(f"{len(documents)} documents")

        retriever = ContextualCompressionRetriever(
            base_compressor=CrossEncoderReranker(model=model, top_n=2),
            base_retriever=store.as_retriever(search_kwargs={"k": 5}),
        )
        found = retriever.invoke(QUERY, config={"callbacks": [Handler()]})
        assert seen == ["5 documents", "2 documents"]
        scores = [document.metadata["relevance_score"] for document in found]
        assert scores == sorted(scores, reverse=True)
        assert scores == pytest.approx(model.score([(QUERY, document.page_content) for document in found]), abs=1e-6)
        assert await retriever.ainvoke(QUERY) == found
        assert retriever.batch([QUERY, QUERY]) == [found, found]

    async def test_chain(self, store: Chroma, model: HuggingFaceCrossEncoder) -> None:
        """As a step between retriever and prompt, which is how LangChain's own text advises to write it."""
        reranker = CrossEncoderReranker(model=model, top_n=2)
        rerank = RunnableLambda(
            lambda found: reranker.compress_documents(found["documents"], found["query"]),
            afunc=lambda found: reranker.acompress_documents(found["documents"], found["query"]),
        )
        chain = RunnableParallel(documents=store.as_retriever(), query=RunnablePassthrough()) | rerank
        found = chain.invoke(QUERY)
        assert found == reranker.compress_documents(store.as_retriever().invoke(QUERY), QUERY)
        assert await chain.ainvoke(QUERY) == found
        assert store.as_retriever().invoke(QUERY)[0].metadata.keys() == {"place"}

    async def test_pipeline_of_compressors(self, model: HuggingFaceCrossEncoder) -> None:
        """With others before and after it, and with callbacks."""
        pipeline = DocumentCompressorPipeline(
            transformers=[CrossEncoderReranker(model=model, top_n=4), CrossEncoderReranker(model=Stated(), top_n=1)]
        )
        best = pipeline.compress_documents(stated(1, 2, 3, 4), QUERY, callbacks=[BaseCallbackHandler()])
        assert places(best) == [3]
        assert await pipeline.acompress_documents(stated(1, 2, 3, 4), QUERY, callbacks=[]) == best

    def test_pickle(self, model: HuggingFaceCrossEncoder) -> None:
        """It holds the settings of its model, which it loads where it is unpickled."""
        reranker = CrossEncoderReranker(model=model, top_n=2, score_threshold=0.1)
        data = pickle.dumps(reranker)
        assert len(data) < 2000
        again = pickle.loads(data)
        assert again == reranker
        assert again.compress_documents(DOCUMENTS, QUERY) == reranker.compress_documents(DOCUMENTS, QUERY)
