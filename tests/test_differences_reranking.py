"""Every difference of the cross-encoder and the reranker, shown on both sides."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker as TheirReranker
from langchain_core.cross_encoders import BaseCrossEncoder
from langchain_core.documents import Document
from pydantic import ValidationError
from sentence_transformers import CrossEncoder
from support import checkpoints, compiled
from support.community import cross_encoder as theirs
from support.tables import Table

from langchain_localhf import CrossEncoderReranker, HuggingFaceCrossEncoder
from langchain_localhf.engines.torch.scorer import TorchScorer
from langchain_localhf.errors import CheckpointError, InputError, UninitializedWeightsError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TABLE = Table("differences.md", "HuggingFaceCrossEncoder and CrossEncoderReranker")
PAIRS = [("a ship", "a river"), ("a ship", "the harbour"), ("tax", "")]
QUERY = "where is the river"
DOCUMENTS = [Document(page_content=text) for text in ("1", "3", "2")]


def ours(folder: Path, **fields: Any) -> HuggingFaceCrossEncoder:
    """The cross-encoder in a folder, here."""
    return HuggingFaceCrossEncoder(**{"model_name": str(folder), "model_kwargs": {"device": "cpu"}, **fields})


class Stated(BaseCrossEncoder):
    """A cross-encoder of somebody else, which scores every text as the number that it is."""

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """The second text of each pair; none for an empty one."""
        return [float(text) for _, text in text_pairs if text]


def texts(documents: Sequence[Document]) -> list[str]:
    """What the documents say."""
    return [document.page_content for document in documents]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-encoder; do not change it."""
    return checkpoints.cross_encoder(tmp_path_factory.mktemp("reranking") / "tiny")


def test_each_row_has_one_test() -> None:
    """The page and this module list the same differences, in the same order, each once."""
    TABLE.check()


@TABLE.row("what `score` gives")
def test_list(tmp_path: Path) -> None:
    """Ours can be read twice and written as JSON."""
    for labels, kind in ((1, np.ndarray), (2, map)):
        folder = checkpoints.cross_encoder(tmp_path / str(labels), labels=labels)
        scores = theirs(folder).score(PAIRS)
        assert isinstance(scores, kind)
        assert json.loads(json.dumps(ours(folder).score(PAIRS))) == pytest.approx(list(scores), abs=1e-5)


@TABLE.row("a classifier that the checkpoint lacks")
def test_fresh_classifier(tmp_path: Path) -> None:
    """There, two objects give two scores to one pair; here there is none of them."""
    folder = checkpoints.classifier(tmp_path / "headless")
    checkpoints.edit_weights(folder, checkpoints.without("classifier."))
    assert theirs(folder).score(PAIRS)[0] != theirs(folder).score(PAIRS)[0]
    with pytest.raises(UninitializedWeightsError) as caught:
        ours(folder)
    assert any("classifier.weight" in name for name in caught.value.missing)


@TABLE.row("an embedding model")
def test_embedding_model(tiny: Path) -> None:
    """There it ranks by chance."""
    assert theirs(tiny).score(PAIRS)[0] != theirs(tiny).score(PAIRS)[0]
    with pytest.raises(UnsupportedModelError, match="HuggingFaceEmbeddings"):
        ours(tiny)


@TABLE.row("a model with three labels or more")
def test_labels(tmp_path: Path) -> None:
    """Whoever means the second says so."""
    folder = checkpoints.cross_encoder(tmp_path / "three", labels=3)
    with pytest.raises(InputError, match="nothing says which one"):
        ours(folder)
    assert ours(folder, label=1).score(PAIRS) == pytest.approx(list(theirs(folder).score(PAIRS)), abs=1e-5)


@TABLE.row("`activation_fn` and `max_length` of `CrossEncoder`, with a graph")
def test_settings_of_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` does what is asked, in torch."""
    stored = compiled.cross_encoder()
    monkeypatch.setenv("LOCALHF_HOME", str(stored.folder.parents[1]))
    for setting in ({"activation_fn": torch.nn.Identity()}, {"max_length": 16}):
        model_kwargs = {"device": "cpu", **setting}
        own = ours(stored.folder, model_kwargs=model_kwargs)
        assert isinstance(own._model.scorer, TorchScorer)
        predicted = CrossEncoder(str(stored.folder), local_files_only=True, **model_kwargs).predict(PAIRS)
        assert own.score(PAIRS) == pytest.approx(predicted, abs=1e-5)
        with pytest.raises(InputError, match=next(iter(setting))):
            ours(stored.folder, model_kwargs=model_kwargs, backend="openvino")


@TABLE.row("the pairs that run together")
def test_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short pairs run at once; `batch_size` runs as many as it says."""
    real, sizes = CrossEncoder.predict, []

    def predict(self: CrossEncoder, inputs: Any, batch_size: int = 32, **settings: Any) -> Any:
        sizes.append(min(batch_size, len(inputs)))
        return real(self, inputs, batch_size=batch_size, **settings)

    monkeypatch.setattr(CrossEncoder, "predict", predict)
    pairs = [(f"ship {place}", "a river") for place in range(100)]
    scores = theirs(folder).score(pairs)
    automatic, stated = ours(folder), ours(folder, batch_size=7)
    assert sizes.pop(0) == 32
    sizes.clear()
    assert automatic.score(pairs) == pytest.approx(scores, abs=1e-5)
    assert stated.score(pairs) == pytest.approx(scores, abs=1e-5)
    assert (max(sizes[:-1]) > 32, sizes[-1]) == (True, 7)


@TABLE.row("a pair that is not in a list")
def test_single_pair(folder: Path) -> None:
    """There it is no list that comes back."""
    assert not hasattr(theirs(folder).score(PAIRS[0]), "__len__")
    with pytest.raises(InputError, match=r"text_pairs\[0\] is str"):
        ours(folder).score(PAIRS[0])  # type: ignore[arg-type]


@TABLE.row("an item that is no pair of texts")
@pytest.mark.parametrize("item", [("a", None), ("a", 3), ("a",)], ids=str)
def test_no_pair(folder: Path, item: Any) -> None:
    """The index says which."""
    with pytest.raises(ValueError, match="Unsupported input type") as unclear:
        theirs(folder).score([PAIRS[0], item])
    assert "[1]" not in str(unclear.value)
    with pytest.raises(InputError, match=r"text_pairs\[1\]") as caught:
        ours(folder).score([PAIRS[0], item])
    assert caught.value.index == 1


@TABLE.row("a generator of pairs")
def test_generator(folder: Path) -> None:
    """It gives the scores of its list."""
    with pytest.raises(ValueError, match="generator"):
        theirs(folder).score(pair for pair in PAIRS)
    assert ours(folder).score(pair for pair in PAIRS) == ours(folder).score(PAIRS)


@TABLE.row("a score that is no number")
def test_nan(tmp_path: Path) -> None:
    """A model that overflows on a word, without a weight that is not finite."""
    folder = checkpoints.classifier(tmp_path / "overflowing")
    checkpoints.edit_weights(folder, checkpoints.overflowing("river"))
    assert math.isnan(theirs(folder).score(PAIRS)[0])
    with pytest.raises(CheckpointError, match=r"text_pairs\[0\]"):
        ours(folder).score(PAIRS)


@TABLE.row("without blocking the event loop")
def test_async(folder: Path) -> None:
    """The scores are those of `score`."""
    assert not hasattr(theirs(folder), "ascore")
    assert asyncio.run(ours(folder).ascore(PAIRS)) == ours(folder).score(PAIRS)


@TABLE.row("the model inside")
def test_client(folder: Path) -> None:
    """Nothing of ours hands it out."""
    assert isinstance(theirs(folder).client, CrossEncoder)
    assert not hasattr(ours(folder), "client")
    with pytest.raises(ValidationError, match="client"):
        ours(folder, client=None)


@TABLE.row("the score of a reranked document")
def test_score(folder: Path) -> None:
    """It is the cross-encoder's own."""
    (dropped,) = TheirReranker(model=ours(folder)).compress_documents(DOCUMENTS[:1], QUERY)
    (kept,) = CrossEncoderReranker(model=ours(folder)).compress_documents(DOCUMENTS[:1], QUERY)
    assert dropped.metadata == {}
    assert kept.metadata == {"relevance_score": ours(folder).score([(QUERY, "1")])[0]}


@TABLE.row("a lowest score")
def test_threshold() -> None:
    """Perhaps nothing comes back."""
    with pytest.raises(ValidationError, match="score_threshold"):
        TheirReranker(model=Stated(), score_threshold=2)  # type: ignore[call-arg]
    for threshold, expected in ((2, ["3", "2"]), (4, [])):
        reranker = CrossEncoderReranker(model=Stated(), score_threshold=threshold)
        assert texts(reranker.compress_documents(DOCUMENTS, QUERY)) == expected


@TABLE.row("`top_n=None`")
def test_all() -> None:
    """Nothing is cut off."""
    with pytest.raises(ValidationError, match="top_n"):
        TheirReranker(model=Stated(), top_n=None)  # type: ignore[arg-type]
    documents = DOCUMENTS * 3
    assert len(CrossEncoderReranker(model=Stated(), top_n=None).compress_documents(documents, QUERY)) == 9


@TABLE.row("`top_n` of 0 or less")
@pytest.mark.parametrize(("top_n", "count"), [(0, 0), (-1, 2)])
def test_none_of_them(top_n: int, count: int) -> None:
    """It is refused when the reranker is made."""
    assert len(TheirReranker(model=Stated(), top_n=top_n).compress_documents(DOCUMENTS, QUERY)) == count
    with pytest.raises(ValidationError, match="top_n"):
        CrossEncoderReranker(model=Stated(), top_n=top_n)


@TABLE.row("a NaN from somebody else's cross-encoder")
def test_nan_of_another() -> None:
    """There it comes out, before documents with higher scores than others."""
    documents = [DOCUMENTS[0], Document(page_content="nan"), DOCUMENTS[1]]
    assert texts(TheirReranker(model=Stated()).compress_documents(documents, QUERY)) == ["1", "nan", "3"]
    with pytest.raises(CheckpointError, match=r"documents\[1\]"):
        CrossEncoderReranker(model=Stated()).compress_documents(documents, QUERY)


@TABLE.row("fewer scores than documents")
def test_too_few_scores() -> None:
    """There, the scores are those of other documents, too."""
    documents = [Document(page_content=""), *DOCUMENTS]
    assert texts(TheirReranker(model=Stated()).compress_documents(documents, QUERY)) == ["1", "3", ""]
    with pytest.raises(CheckpointError, match="3 scores for 4 documents"):
        CrossEncoderReranker(model=Stated()).compress_documents(documents, QUERY)
