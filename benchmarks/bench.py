"""Measures this package and its peers side by side on one machine, and writes the tables and the plots of the docs.

Every contestant runs in a process and an environment of its own, with its own defaults. They take turns, round by
round, so that whatever else the machine does meets all of them. `make bench` makes the environments and starts this;
run `python benchmarks/bench.py --help` for the settings.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import embeddings
import language_models
import prepare
import report
from contestants import embedders, generators
from environments import Environments
from side_by_side import machine

ROOT = Path(__file__).resolve().parents[1]

QUICK = {
    "chunks": 24, "long_chunks": 4, "calibration": 40, "queries": 5, "rounds": 2, "starts": 1, "prompts": 2,
    "new_tokens": 4, "limit_seconds": 0.01,
}  # fmt: skip


def run(arguments: argparse.Namespace, shared: Path) -> dict[str, Any]:
    """Measures what was asked for."""
    environments = Environments(arguments.environments, shared)
    source = arguments.model or prepare.minilm()
    results: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(()),
        "settings": {name: getattr(arguments, name) for name in QUICK},
    }
    dimension = json.loads((source / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    if embedding := [one for one in embedders(shared, source, dimension) if _takes_part(one.name, arguments.embed)]:
        texts = embeddings.prepared(embedding, environments, source, arguments)
        results["embeddings"] = embeddings.measure(embedding, environments, source, texts, arguments)
    if generating := [one for one in generators(shared) if _takes_part(one.name, arguments.generate)]:
        language_models.prepared(generating, environments)
        results["generation"] = language_models.measure(generating, environments, arguments)
    return results


def _takes_part(name: str, wanted: str | None) -> bool:
    return wanted is None or any(word.strip() in name for word in wanted.split(";") if word.strip())


def arguments_of(words: list[str] | None = None) -> argparse.Namespace:
    """The settings of a run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="tiny sizes, to see that it works; the figures mean nothing")
    add("--embed", metavar="NAMES", help="who embeds: parts of names, divided by semicolons; all of them by default")
    add("--generate", metavar="NAMES", help="who generates text, in the same way")
    add("--chunks", type=int, default=1000, help="chunks of mixed lengths")
    add("--long-chunks", type=int, default=200, help="chunks of one length")
    add("--calibration", type=int, default=100, help="other chunks, to calibrate int8 with")
    add("--queries", type=int, default=250, help="queries a round")
    add("--rounds", type=int, default=3, help="how often each contestant has its turn")
    add("--starts", type=int, default=10, help="how often each contestant is started")
    add("--prompts", type=int, default=32, help="prompts in a batch")
    add("--new-tokens", type=int, default=64, help="new tokens for each")
    add("--limit-seconds", type=float, default=0.5, help="how long each way to multiply matrices is tried")
    add("--model", type=Path, metavar="FOLDER", help="another embedding model of the kind of all-MiniLM-L6-v2")
    add(
        "--environments",
        type=Path,
        default=ROOT / ".venv",
        metavar="PREFIX",
        help="what the paths of theirs begin with",
    )
    add("--docs", type=Path, default=ROOT / "docs", metavar="FOLDER", help="where to write tables, plots and figures")
    arguments = parser.parse_args(words)
    if arguments.quick:
        vars(arguments).update(QUICK)
    return arguments


def main(words: list[str] | None = None) -> None:
    """Measures, and writes what came out."""
    arguments = arguments_of(words)
    with tempfile.TemporaryDirectory() as shared:
        results = run(arguments, Path(shared))
    # Figures of a run that goes elsewhere are no figures for the README.
    report.write(results, arguments.docs, ROOT / "README.md" if arguments.docs == ROOT / "docs" else None)


if __name__ == "__main__":
    main()
