"""Two packages that take turns on one machine: times, medians and what to think of them."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

OURS, THEIRS = "langchain_localhf", "langchain_huggingface"
# Where the slowest round took this much longer than the fastest, something else had the cores: the ratio says nothing.
STEADY_SPREAD = 1.3


def in_turns(tasks: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """The seconds that each task takes, round by round; who begins changes with each round."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds):
        for name in list(tasks) if number % 2 == 0 else reversed(tasks):
            start = time.perf_counter()
            value = tasks[name]()
            seconds[name].append(value if isinstance(value, float) else time.perf_counter() - start)
    return seconds


def result(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, ours as a multiple of theirs, and whether the rounds agree well enough to believe it."""
    ours, theirs = statistics.median(seconds[OURS]), statistics.median(seconds[THEIRS])
    return {
        "ours_seconds": ours,
        "theirs_seconds": theirs,
        "ratio": ours / theirs,
        "steady": all(max(times) <= STEADY_SPREAD * min(times) for times in seconds.values()),
        "all_seconds": seconds,
    }


def machine(libraries: Sequence[str]) -> dict[str, str]:
    """What the numbers were measured on."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        **{library: version(library) for library in libraries},
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def table(report: dict[str, Any]) -> str:
    """The report for people, in Markdown."""
    lines = ["| | langchain-huggingface | langchain-localhf | ratio |", "|---|---|---|---|"]
    for name, row in report["results"].items():
        doubt = "" if row["steady"] else " (unsteady)"
        times = f"{row['theirs_seconds']:.2f} s | {row['ours_seconds']:.2f} s"
        lines.append(f"| {name} | {times} | {row['ratio']:.2f}{doubt} |")
    lines += ["", "Machine: " + ", ".join(f"{name} {value}" for name, value in report["machine"].items()) + "."]
    return "\n".join(lines)
