"""Measures those who embed texts: starts, corpora, queries, memory, size, vectors, and the limit of the machine."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import corpus
import numpy as np
import prepare
from side_by_side import in_turns, say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from contestants import Contestant
    from environments import Environments
    from protocol import Worker

_WORKER, _NEIGHBOURS = "embedding_worker.py", 10
_QUESTION = "Where is the harbour?"


def prepared(
    contestants: Sequence[Contestant], environments: Environments, source: Path, arguments: argparse.Namespace
) -> dict[str, str]:
    """Makes what the contestants read; answers the files of texts, by name."""
    say("preparing the embedding models")
    shared, used = environments.shared, {one.environment for one in contestants}
    mixed, calibration = corpus.mixed(arguments.chunks, arguments.calibration)
    names = {str(one.arguments.get("model_name")) for one in contestants}
    precisions = [one for one in prepare.PRECISIONS if f"bench/{one}" in names]
    prepare.compiled(source, shared / "store", calibration, precisions)
    if "bench-fastembed" in used:
        prepare.onnx(source, shared / "onnx", _max_tokens(source))
    if "export" in used:
        python = environments.python("export")
        prepare.sentence_transformers_openvino(source, shared / "theirs-openvino", python)
    return {
        "mixed": environments.write("mixed", mixed),
        "long": environments.write("long", corpus.long(arguments.long_chunks)),
        "queries": environments.write("queries", corpus.queries(arguments.queries)),
    }


def measure(
    contestants: Sequence[Contestant],
    environments: Environments,
    source: Path,
    texts: dict[str, str],
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Everything about each contestant, and how many of the long chunks a second matrix products allow."""
    rows: dict[str, dict[str, Any]] = {one.name: {} for one in contestants}
    say("starting each contestant anew")
    starts = {one.name: partial(_first_vector, one, environments) for one in contestants}
    in_turns(starts, 1)  # brings the files into the memory of the machine
    _add(rows, "starts", in_turns(starts, arguments.starts))
    with ExitStack() as stack:
        workers = {one.name: stack.enter_context(environments.start(one, _WORKER)) for one in contestants}
        for one in contestants:
            say(f"warming up {one.name}")
            rows[one.name] |= _warmed(one, workers[one.name], environments, texts["mixed"])
        say("embedding the mixed chunks")
        _add(rows, "mixed", in_turns(_documents(workers, texts["mixed"]), arguments.rounds))
        say("embedding the long chunks, and multiplying matrices")
        multiplying = stack.enter_context(environments.worker("bench-localhf", "gemm_worker.py"))
        rates = _rates(multiplying, source, arguments.limit_seconds)
        long = in_turns(_documents(workers, texts["long"]) | rates, arguments.rounds)
        limit = {
            "operations": multiplying.ask("operations", **_reading(source), path=texts["long"]),
            "rates": {precision: max(long.pop(precision)) for precision in rates},
        }
        _add(rows, "long", long)
        say("embedding queries")
        _add_queries(rows, workers, texts["queries"], arguments.rounds)
    truth = _reference(source, _json(texts["mixed"]))
    for row in rows.values():
        row.update(closeness(np.load(row.pop("vectors")), truth))
    return {"contestants": rows, "limit": limit}


def closeness(vectors: Any, truth: Any) -> dict[str, float]:  # noqa: ANN401 - arrays
    """The lowest cosine to the vectors of the same texts, and how many of the ten nearest neighbours are the same."""
    one, other = (array / np.linalg.norm(array, axis=1, keepdims=True) for array in (vectors, truth))
    nearest, wanted = _nearest(one), _nearest(other)
    kept = [len(set(row) & set(truth)) / len(truth) for row, truth in zip(nearest, wanted, strict=True)]
    return {"lowest_cosine": float((one * other).sum(axis=1).min()), "neighbours_kept": float(np.mean(kept))}


def _nearest(vectors: Any) -> list[list[int]]:  # noqa: ANN401 - an array
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    return np.argsort(-similar, axis=1)[:, :_NEIGHBOURS].tolist()


def _add(rows: dict[str, dict[str, Any]], name: str, values: dict[str, Any]) -> None:
    for who, value in values.items():
        rows[who][name] = value


def _documents(workers: dict[str, Worker], path: str) -> dict[str, Callable[[], float]]:
    return {who: partial(worker.ask, "documents", path=path) for who, worker in workers.items()}


def _add_queries(rows: dict[str, dict[str, Any]], workers: dict[str, Worker], path: str, rounds: int) -> None:
    asked: dict[str, list[list[float]]] = {who: [] for who in workers}

    def ask(who: str) -> None:
        asked[who].append(workers[who].ask("queries", path=path))

    in_turns({who: partial(ask, who) for who in workers}, rounds + 1)
    for name, percent in (("query_p50", 50), ("query_p95", 95)):
        # Without the first round, in which everything is new.
        values = {who: [float(np.percentile(one, percent)) for one in seconds[1:]] for who, seconds in asked.items()}
        _add(rows, name, values)


def _first_vector(contestant: Contestant, environments: Environments) -> float:
    start = time.perf_counter()
    with environments.start(contestant, _WORKER) as worker:
        worker.ask("first", text=_QUESTION)
        return time.perf_counter() - start


def _warmed(contestant: Contestant, worker: Worker, environments: Environments, path: str) -> dict[str, Any]:
    vectors = str(environments.shared / f"{contestant.name}.npy")
    worker.ask("documents", path=path, vectors=vectors)
    return {
        "vectors": vectors,
        "memory": worker.ask("memory"),
        **environments.installed(contestant.environment),
    }


def _reference(source: Path, texts: Sequence[str]) -> Any:  # noqa: ANN401 - an array
    """What plain sentence-transformers gives."""
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - slow to import

    return SentenceTransformer(str(source), device="cpu").encode(list(texts))


def _max_tokens(source: Path) -> int:
    settings = _json(source / "tokenizer_config.json") | _json(source / "sentence_bert_config.json")
    return int(settings.get("max_seq_length") or settings["model_max_length"])


def _json(path: Path | str) -> Any:  # noqa: ANN401 - JSON
    return json.loads(Path(path).read_text(encoding="utf-8"))


def _reading(source: Path) -> dict[str, Any]:
    """What tells how many operations a text takes."""
    tokenizer = str(source / "tokenizer.json")
    return {"shape": _json(source / "config.json"), "tokenizer": tokenizer, "max_tokens": _max_tokens(source)}


def _rates(worker: Worker, source: Path, seconds: float) -> dict[str, Callable[[], float]]:
    """How many operations a second matrix products reach, by precision."""
    shape = _json(source / "config.json")
    return {
        precision: partial(worker.ask, "rate", shape=shape, precision=precision, seconds=seconds)
        for precision in ("f32", "bf16")
    }
