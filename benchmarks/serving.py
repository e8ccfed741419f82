"""`localhf serve` under load: many clients at once, compared with one that sends its next text after each reply.

    python benchmarks/serving.py MODEL [MODEL ...]

Server and clients share this machine. Rounds of both kinds take turns, and a round in which other processes took more
than a twentieth of the processors is thrown away and done again.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from corpus import _LENGTHS, _words

if TYPE_CHECKING:
    from collections.abc import Iterator

_SERVER = """
import sys
from langchain_localhf.server.listening import url_of
from langchain_localhf.server.running import serve
from langchain_localhf.server.settings import ServerSettings
serve(ServerSettings(text=sys.argv[1]), port=0, on_ready=lambda at, _: print(url_of(at), flush=True))
"""
_WORKER = Path(__file__).with_name("serving_worker.py")
# Characters; real sentences begin anywhere in the corpus, so that none comes twice.
_KINDS = {"queries": [(20, 120)], "sentences": [(20, 300)], "chunks": _LENGTHS}
_TEXTS = 40_000
_LONGEST_WORDS = 400
_DISTURBED = 0.05
_TRIES = 6
_WARM_TEXTS = 10_000


class Server:
    """A server's process.

    Args:
        model: The model for texts.
    """

    def __init__(self, model: str) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own
            [sys.executable, "-c", _SERVER, model], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout  # noqa: S101 - it is a pipe
        self._address = urlsplit(self._process.stdout.readline().strip())

    def load(self, texts: Path, *, clients: int, seconds: float, first: int) -> dict[str, Any]:
        """What so many clients see in so many seconds, and how much of the processors others took meanwhile."""
        settings = {
            "host": self._address.hostname,
            "port": self._address.port,
            "texts": str(texts),
            "clients": clients,
            "seconds": seconds,
            "first": first,
        }
        started, busy, ours = time.perf_counter(), _busy_seconds(), self._processor_seconds()
        command = [sys.executable, str(_WORKER), json.dumps(settings)]
        seen: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)  # noqa: S603 - our own
        children = os.times().children_user + os.times().children_system
        ours = self._processor_seconds() - ours + children - getattr(self, "_children", 0.0)
        self._children = children
        elapsed = time.perf_counter() - started
        seen["others"] = (_busy_seconds() - busy - ours) / elapsed / (os.cpu_count() or 1)
        seen["a_second"] = len(seen["reply_seconds"]) / seen["seconds"]
        return seen

    def _processor_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> int:
        """Ends it; its exit status."""
        self._process.terminate()
        return self._process.wait()


def _busy_seconds() -> float:
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = (int(field) for field in fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _texts(kind: str) -> list[str]:
    words, source = list(_words()), random.Random(6)  # noqa: S311 - no secret
    texts: dict[str, None] = {}
    while len(texts) < _TEXTS:
        size, start = source.randint(*source.choice(_KINDS[kind])), source.randrange(len(words) - _LONGEST_WORDS)
        text = words[start]
        for word in words[start + 1 : start + _LONGEST_WORDS]:
            if len(text) + 1 + len(word) > size:
                break
            text += " " + word
        texts[text] = None
    shuffled = list(texts)
    source.shuffle(shuffled)
    return shuffled


def _rounds(server: Server, texts: Path, clients: int, rounds: int, seconds: float) -> Iterator[dict[str, Any]]:
    """What one client and what many saw, in turns; as many undisturbed rounds of each, or after some tries fewer."""
    server.load(texts, clients=clients, seconds=seconds, first=0)  # warms up
    first, done = _WARM_TEXTS, {1: 0, clients: 0}
    for turn in range(_TRIES * rounds):
        number = (1, clients)[(turn + turn // 2) % 2]  # who begins changes
        if done[number] < rounds:
            seen = server.load(texts, clients=number, seconds=seconds, first=first)
            first = seen["next"]
            if seen["others"] < _DISTURBED:
                done[number] += 1
                yield {"clients": number, **seen}


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] * 1000


@click.command()
@click.argument("models", nargs=-1, required=True)
@click.option("--clients", default=64, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="How long a round takes.")
@click.option("--minute", default=60.0, show_default=True, help="How long the clients ask without a pause; 0 to skip.")
@click.option("--kind", "kinds", multiple=True, default=tuple(_KINDS), help="What is sent.")
def main(
    models: tuple[str, ...], clients: int, rounds: int, seconds: float, minute: float, kinds: tuple[str, ...]
) -> None:
    """Measures the server with each MODEL, a folder or a name in the store."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        for kind in kinds:
            path.write_text(json.dumps(_texts(kind)), encoding="utf-8")
            for model in models:
                server = Server(model)
                _compare(server, path, f"{Path(model).name}, {kind}", (clients, rounds, seconds))
                if minute:
                    _say(f"{minute:g} s", server.load(path, clients=clients, seconds=minute, first=20_000))
                print("exit status", server.end(), flush=True)


def _compare(server: Server, texts: Path, title: str, plan: tuple[int, int, float]) -> None:
    clients, rounds, seconds = plan
    seen = list(_rounds(server, texts, clients, rounds, seconds))
    rates = {number: [one["a_second"] for one in seen if one["clients"] == number] for number in (1, clients)}
    print(f"{title}: {[(number, len(rate)) for number, rate in rates.items()]} undisturbed rounds")
    for number in rates:
        _say(f"{number} clients", *(one for one in seen if one["clients"] == number))
    if all(rates.values()):
        ratio = statistics.median(rates[clients]) / statistics.median(rates[1])
        print(f"  ratio {ratio:.2f}", flush=True)


def _say(what: str, *seen: dict[str, Any]) -> None:
    if not seen:
        return
    replies = [value for one in seen for value in one["reply_seconds"]]
    health = [value for one in seen for value in one["health_seconds"]]
    statuses: Counter[str] = sum((Counter(one["statuses"]) for one in seen), Counter())
    print(
        f"  {what}: {statistics.median(one['a_second'] for one in seen):.0f} texts/s, "
        f"reply p50 {_percentile(replies, 0.5):.1f} p99 {_percentile(replies, 0.99):.1f} ms, "
        f"health p50 {_percentile(health, 0.5):.1f} p99 {_percentile(health, 0.99):.1f} ms, "
        f"statuses {dict(statuses)}, errors {[one['errors'] for one in seen if one['errors']]}, "
        f"client {statistics.median(one['client_processor_seconds'] / one['seconds'] for one in seen):.3f} of a core, "
        f"others {max(one['others'] for one in seen):.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
