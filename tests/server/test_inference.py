"""What the protocols ask for: the vectors and scores of LangChain's classes, for many requests at once."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from support import checkpoints, compiled, dual_encoders

from langchain_localhf import HuggingFaceCrossEncoder, HuggingFaceEmbeddings
from langchain_localhf.errors import InputError, UnsupportedModelError
from langchain_localhf.loading import load_encoder, load_scorer
from langchain_localhf.server.failures import OverloadedError, TooLargeError
from langchain_localhf.server.inference import ImageInference, PairInference, TextInference
from langchain_localhf.server.metrics import Metrics
from langchain_localhf.server.settings import Limits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEXTS = [f"sentence number {number} " * (1 + number % 7 * 5) for number in range(60)]


def texts_of(folder: Path | str, **limits: Any) -> TextInference:
    """A model for texts."""
    return TextInference(load_encoder(str(folder)), metrics=Metrics().of_model("texts"), limits=Limits(**limits))


def picture(shade: int) -> bytes:
    """A PNG of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (shade, 255 - shade, 9)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("engine", ["torch", "openvino"])
async def test_vectors_of_many_clients(minilm: Path, engine: str) -> None:
    """64 clients at once get, each for its own text, what HuggingFaceEmbeddings gives for it alone."""
    folder = minilm if engine == "torch" else compiled.minilm().folder
    inference = texts_of(folder)
    embeddings = HuggingFaceEmbeddings(model_name=str(folder))
    replies = await asyncio.gather(*(inference.embed([text]) for text in TEXTS))
    expected = np.array([embeddings.embed_query(text) for text in TEXTS])
    got = np.concatenate([reply.vectors for reply in replies])
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=2e-6)
    together = await inference.embed(TEXTS)
    assert together.vectors.tobytes() == got.tobytes()
    assert together.token_counts == tuple(count for reply in replies for count in reply.token_counts)
    await inference.close()


async def test_kinds_are_different_inputs(tmp_path: Path) -> None:
    """A text as a query and the same as a document share a batch, and not a vector, where the model has prompts."""
    folder = checkpoints.sentence_transformer(tmp_path / "m", prompts={"query": "find this: ", "document": ""})
    inference, embeddings = texts_of(folder), HuggingFaceEmbeddings(model_name=str(folder))
    query, document = await asyncio.gather(
        inference.embed(["weather"], kind="query"), inference.embed(["weather"], kind="document")
    )
    np.testing.assert_allclose(query.vectors[0], embeddings.embed_query("weather"), atol=1e-6)
    np.testing.assert_allclose(document.vectors[0], embeddings.embed_documents(["weather"])[0], atol=1e-6)
    assert query.token_counts[0] > document.token_counts[0]
    await inference.close()


async def test_long_texts(minilm: Path) -> None:
    """A text that the model does not read to its end is said to be cut; one that nobody could want is refused."""
    inference = texts_of(minilm, text_bytes=5000)
    embedded = await inference.embed(["short", "word " * 600])
    assert embedded.cut == (1,)
    assert embedded.token_counts == (3, 256)
    with pytest.raises(TooLargeError, match="text 1 has 5001 bytes"):
        await inference.embed(["short", "x" * 5001])
    await inference.close()


async def test_kept_vectors_keep_nothing_else(tiny: Path) -> None:
    """A vector that is kept has memory of its own, and a client cannot change it for others."""
    inference = texts_of(tiny)
    first = await inference.embed(["one", "two"])
    first.vectors[:] = 0
    assert (await inference.embed(["one"])).vectors.any()
    assert all(vector.base is None for vector, _ in inference._batcher._results.values())
    await inference.close()


async def test_images(tmp_path: Path) -> None:
    """Images of many clients are decoded and embedded; a bad one fails alone, with its place; equal ones are equal."""
    loaded = load_encoder(str(dual_encoders.clip(tmp_path / "clip")))
    inference = ImageInference(loaded, metrics=Metrics().of_model("images"), limits=Limits())
    good, bad, same = await asyncio.gather(
        inference.embed([picture(10), picture(20)]),
        inference.embed([picture(30), b"no picture"], label="pictures"),
        inference.embed([picture(20)]),
        return_exceptions=True,
    )
    assert isinstance(bad, InputError)
    assert bad.index == 1
    assert "pictures[1]" in str(bad)
    assert not isinstance(good, BaseException)
    assert not isinstance(same, BaseException)
    assert good[1].tobytes() == same[0].tobytes()
    assert good[0].tobytes() != same[0].tobytes()
    await inference.close()


async def test_images_that_are_decoded_count_as_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under overload no image is even decoded."""
    loaded = load_encoder(str(dual_encoders.clip(tmp_path / "clip")))
    inference = ImageInference(loaded, metrics=Metrics().of_model("images"), limits=Limits(queue_tokens=300))
    released, read = threading.Event(), inference._read
    monkeypatch.setattr(inference, "_read", lambda *a: (released.wait(10), read(*a))[1])
    first = asyncio.create_task(inference.embed([picture(1)]))
    await asyncio.sleep(0.01)
    began = time.perf_counter()
    with pytest.raises(OverloadedError):
        await inference.embed([picture(2)])
    assert time.perf_counter() - began < 0.1
    released.set()
    await first
    assert (await inference.embed([picture(2)])).shape[0] == 1
    await inference.close()


def test_model_without_images(tiny: Path) -> None:
    """A model for texts is none for images."""
    with pytest.raises(UnsupportedModelError, match="no images"):
        ImageInference(load_encoder(str(tiny)), metrics=Metrics().of_model("images"), limits=Limits())


async def test_scores(tmp_path: Path) -> None:
    """Scores come in the order of the documents, and are those of HuggingFaceCrossEncoder."""
    folder = checkpoints.cross_encoder(tmp_path / "reranker")
    inference = PairInference(
        load_scorer(str(folder)), metrics=Metrics().of_model("rerank"), limits=Limits(text_bytes=1000)
    )
    documents = ["the weather is nice", "tax filings are due", "the weather is nice"]
    scored = await asyncio.gather(*(inference.score("how is the weather", documents[: 1 + n]) for n in range(3)))
    scores = [one.scores for one in scored]
    expected = HuggingFaceCrossEncoder(model_name=str(folder)).score([("how is the weather", d) for d in documents])
    np.testing.assert_allclose(scores[2], expected, atol=1e-5)
    assert scores[2][0] == scores[2][2] == scores[0][0]
    with pytest.raises(TooLargeError, match="the query"):
        await inference.score("x" * 1001, documents)
    with pytest.raises(TooLargeError, match="document 1"):
        await inference.score("x", ["y", "x" * 1001])
    await inference.close()


async def test_long_query(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long query stands in all pairs of its request, which are therefore never tokenized all together."""
    loaded = load_scorer(str(checkpoints.cross_encoder(tmp_path / "reranker")))
    count, read = type(loaded.scorer).count_tokens, []

    def counting(scorer: Any, pairs: Sequence[tuple[str, str]]) -> list[int]:
        read.append(sum(len(query) + len(document) for query, document in pairs))
        return count(scorer, pairs)

    monkeypatch.setattr(type(loaded.scorer), "count_tokens", counting)
    inference = PairInference(loaded, metrics=Metrics().of_model("rerank"), limits=Limits())
    query = "the river " * 50_000
    scored = await inference.score(query, [f"document {number}" for number in range(8)])
    assert scored.cut == tuple(range(8))
    assert sum(read) > 8 * len(query)
    assert max(read) < 3 * len(query)
    await inference.close()


async def test_query_too_long_for_so_many_documents(tmp_path: Path) -> None:
    """What a request costs is bounded by the size of a body, though each document is read with the whole query."""
    loaded = load_scorer(str(checkpoints.cross_encoder(tmp_path / "reranker")))
    inference = PairInference(loaded, metrics=Metrics().of_model("rerank"), limits=Limits(body_bytes=1000))
    assert len((await inference.score("x" * 100, ["y"] * 10)).scores) == 10
    with pytest.raises(TooLargeError, match="with each of 11 documents"):
        await inference.score("x" * 100, ["y"] * 11)
    await inference.close()
