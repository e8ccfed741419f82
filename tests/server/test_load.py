"""Many clients at once; benchmarks/serving.py does the same for a minute, and says how fast."""

from __future__ import annotations

import json
import random
import statistics
from pydoc_data.topics import topics
from typing import TYPE_CHECKING

import httpx
import pytest
from support import checkpoints, compiled
from support.load import load
from support.server_process import ServerProcess, server_process

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.loopback
CLIENTS = 64


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real sentences of 3 to 60 words, all of them different."""
    words = " ".join(text for _, text in sorted(topics.items())).split()
    source = random.Random(6)  # noqa: S311 - no secret
    starts = [source.randrange(len(words) - 60) for _ in range(20_000)]
    texts = dict.fromkeys(" ".join(words[start : start + source.randint(3, 60)]) for start in starts)
    path = tmp_path_factory.mktemp("texts") / "sentences.json"
    path.write_text(json.dumps(list(texts)), encoding="utf-8")
    return path


def metric(server: ServerProcess, name: str) -> float:
    """One of the server's numbers."""
    text = httpx.get(f"http://{server.host}:{server.port}/metrics", trust_env=False).text
    [line] = [line for line in text.splitlines() if line.startswith(name)]
    return float(line.split()[-1])


def test_many_clients(sentences: Path) -> None:
    """64 clients get every reply, several of them share a batch, and health is answered all the while."""
    with server_process(text=str(compiled.minilm().folder)) as server:
        seen = load(server, sentences, clients=CLIENTS, seconds=4)
        items, batches = (metric(server, f"localhf_batch_items_{part}") for part in ("sum", "count"))
        server.process.terminate()
        assert server.outcome() == (0, "ended\n", "")
    assert seen["errors"] == {}
    assert set(seen["statuses"]) == {"200"}
    assert seen["statuses"]["200"] == items
    assert items / batches > 8
    assert statistics.median(seen["health_seconds"]) < 0.05
    assert seen["health_seconds"][int(0.99 * len(seen["health_seconds"]))] < 0.25


def test_the_server_is_not_the_limit(sentences: Path, tmp_path: Path) -> None:
    """With a model that takes as long for many texts as for one, 64 clients get many times what one gets."""
    slow = (
        "import time\n"
        "from langchain_localhf.server.inference import TextInference\n"
        "compute = TextInference._compute\n"
        "TextInference._compute = lambda self, items: (time.sleep(0.04), compute(self, items))[1]"
    )
    with server_process(text=str(checkpoints.sentence_transformer(tmp_path / "tiny")), before=slow) as server:
        alone = load(server, sentences, clients=1, seconds=2)
        together = load(server, sentences, clients=CLIENTS, seconds=2, first=alone["next"])
    assert together["errors"] == {}
    assert set(together["statuses"]) == {"200"}
    assert together["statuses"]["200"] > 8 * alone["statuses"]["200"]


def test_overload(sentences: Path) -> None:
    """With ten times of what the queue holds, who does not fit in is told so at once; after that all is as before."""
    limits = {"batch_tokens": 64, "queue_tokens": 64}
    with server_process(text=str(compiled.minilm().folder), limits=limits) as server:
        seen = load(server, sentences, clients=CLIENTS, seconds=3)
        after = load(server, sentences, clients=1, seconds=0.5, first=seen["next"])
        assert metric(server, "localhf_queue_tokens") == 0
        assert metric(server, "localhf_refused_total") == seen["statuses"]["429"]
    assert seen["errors"] == {}
    assert set(seen["statuses"]) == {"200", "429"}
    assert all(int(seconds) >= 1 for seconds in seen["retry_after"])
    assert statistics.median(seen["refused_seconds"]) < 0.05
    assert set(after["statuses"]) == {"200"}
