"""`localhf serve` under load: many clients at once, compared with one that sends its next text after each reply.

    python benchmarks/serving.py torch=MODEL "OpenVINO bf16"=MODEL --json docs/serving.json

Each MODEL is a folder or a name in the store, behind what the table calls it. Server and clients share this machine.
Rounds of both kinds take turns, and a round in which other processes took more than a twentieth of the processors is
thrown away and done again.
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
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
from corpus import _LENGTHS, _words
from side_by_side import machine

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
@click.option("--json", "file", type=Path, help="Where to write the figures; report.py makes a table of them.")
def main(models: tuple[str, ...], kinds: tuple[str, ...], file: Path | None, **plan: float) -> None:
    """Measures the server with each MODEL, a folder or a name in the store; NAME=MODEL says what the table calls it."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.json"
        for kind in kinds:
            path.write_text(json.dumps(_texts(kind)), encoding="utf-8")
            for model in models:
                name, _, place = model.rpartition("=")
                server = Server(place)
                title = {"texts": _described(kind), "engine": name or Path(place).name}
                print(", ".join(title.values()), flush=True)
                try:
                    rows.append(title | _row(server, path, plan))
                finally:
                    print("exit status", server.end(), flush=True)
    if file:
        results = {"date": datetime.now(UTC).date().isoformat(), "machine": machine(()), **plan, "rows": rows}
        file.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _described(kind: str) -> str:
    least, most = min(low for low, _ in _KINDS[kind]), max(high for _, high in _KINDS[kind])
    return f"{kind}, {least} to {most:,} characters"


def _row(server: Server, path: Path, plan: dict[str, float]) -> dict[str, float | None]:
    """What one client and many saw, in rounds and without a pause.

    Raises:
        SystemExit: Other processes had the processors in every round.
    """
    clients = int(plan["clients"])
    seen = list(_rounds(server, path, clients, int(plan["rounds"]), plan["seconds"]))
    by_number = {number: [one for one in seen if one["clients"] == number] for number in (1, clients)}
    for number, rounds in by_number.items():
        _say(f"{number} clients, {len(rounds)} undisturbed rounds", *rounds)
    if not all(by_number.values()):
        raise SystemExit("other processes took too much of this machine: there is no undisturbed round of both kinds")
    rates = [statistics.median(one["a_second"] for one in rounds) for rounds in by_number.values()]
    steady = server.load(path, clients=clients, seconds=plan["minute"], first=20_000) if plan["minute"] else None
    replies, health = (steady["reply_seconds"], steady["health_seconds"]) if steady else (None, None)
    if steady:
        _say(f"{plan['minute']:g} s", steady)
    return {
        "one": round(rates[0]),
        "many": round(rates[1]),
        "steady": round(steady["a_second"]) if steady else None,
        "reply_p50": round(_percentile(replies, 0.5), 1) if replies else None,
        "reply_p99": round(_percentile(replies, 0.99), 1) if replies else None,
        "health_p99": round(_percentile(health, 0.99), 1) if health else None,
    }


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
