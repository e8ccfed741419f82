"""A contestant that embeds texts; the benchmark starts it in the contestant's own environment, see `protocol.py`.

Nothing is imported before the first request, so that the time from the start of the process to the first vector is what
a user waits for.
"""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protocol import serve

if TYPE_CHECKING:
    from collections.abc import Callable

    Documents = Callable[[list[str]], list[list[float]]]
    Query = Callable[[str], list[float]]

SETTINGS = json.loads(sys.argv[1])


def langchain(package: str, **fields: Any) -> tuple[Documents, Query]:  # noqa: ANN401 - the fields of a class
    """The class of the same name in langchain_huggingface and in langchain_localhf."""
    embeddings = import_module(package).HuggingFaceEmbeddings(**fields)
    return embeddings.embed_documents, embeddings.embed_query


def fastembed(folder: str, dimension: int) -> tuple[Documents, Query]:
    """fastembed, with the model's own weights as ONNX; vectors as lists, as LangChain wants them."""
    from fastembed import TextEmbedding  # noqa: PLC0415 - only in its own environment
    from fastembed.common.model_description import ModelSource, PoolingType  # noqa: PLC0415 - as above

    TextEmbedding.add_custom_model(
        "benchmark/model",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="benchmark/model"),
        dim=dimension,
        model_file="model.onnx",
    )
    model = TextEmbedding("benchmark/model", specific_model_path=folder)
    return (
        lambda texts: [vector.tolist() for vector in model.embed(texts)],
        lambda text: next(iter(model.query_embed(text))).tolist(),
    )


@cache
def model() -> tuple[Documents, Query]:
    """The contestant, made once."""
    makers = {"langchain": langchain, "fastembed": fastembed}
    return makers[SETTINGS["library"]](**SETTINGS["arguments"])


@cache
def texts(path: str) -> list[str]:
    """The texts of a file."""
    return json.loads(Path(path).read_text(encoding="utf-8"))


def first(text: str) -> int:
    """One vector, as soon as there can be one; answers its length."""
    return len(model()[1](text))


def documents(path: str, vectors: str | None = None) -> float:
    """The seconds that the texts of a file take together; keeps the vectors if told where."""
    start = time.perf_counter()
    embedded = model()[0](texts(path))
    seconds = time.perf_counter() - start
    if vectors:
        import numpy as np  # noqa: PLC0415 - every environment has it, but no start shall wait for it

        np.save(vectors, np.asarray(embedded, dtype=np.float32))
    return seconds


def queries(path: str) -> list[float]:
    """The seconds of each text of a file, one after the other."""
    seconds = []
    for text in texts(path):
        start = time.perf_counter()
        model()[1](text)
        seconds.append(time.perf_counter() - start)
    return seconds


def memory() -> float:
    """The most memory that this process ever held, in megabytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


if __name__ == "__main__":
    serve({"first": first, "documents": documents, "queries": queries, "memory": memory})
