"""Two packages that take turns on one machine: times, medians and what to think of them."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OURS, THEIRS = "langchain_localhf", "langchain_huggingface"
# Where the slowest round took this much longer than the fastest, something else had the cores: the ratio says nothing.
STEADY_SPREAD = 1.3
# What matrix products are made of.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")


def in_turns(tasks: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """The seconds that each task takes, round by round; who begins changes with each round."""
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for number in range(rounds):
        for name in list(tasks) if number % 2 == 0 else reversed(tasks):
            start = time.perf_counter()
            value = tasks[name]()
            seconds[name].append(value if isinstance(value, float) else time.perf_counter() - start)
    return seconds


def say(what: str) -> None:
    """Tells on the standard error what happens now."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def is_steady(seconds: Sequence[float]) -> bool:
    """Whether rounds agree well enough to believe their median."""
    return max(seconds) <= STEADY_SPREAD * min(seconds)


def result(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, ours as a multiple of theirs, and whether the rounds agree well enough to believe it."""
    ours, theirs = statistics.median(seconds[OURS]), statistics.median(seconds[THEIRS])
    return {
        "ours_seconds": ours,
        "theirs_seconds": theirs,
        "ratio": ours / theirs,
        "steady": all(map(is_steady, seconds.values())),
        "all_seconds": seconds,
    }


def machine(libraries: Sequence[str]) -> dict[str, str]:
    """What the numbers were measured on."""
    lines = (line.partition(":") for line in _lines("/proc/cpuinfo"))
    facts = {name.strip(): value.strip() for name, _, value in lines}
    flags = facts.get("flags", "").split()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "instructions": " ".join(flag for flag in INSTRUCTIONS if flag in flags) or "unknown",
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 1e9:.0f} GB",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
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
