"""Runs LangChain's standard tests with `ChatHuggingFace` of langchain-huggingface and of this package, side by side.

Both run the same tests in a process of their own, with the same tiny model. It was taught by heart the answers without
which these tests fail, so that they tell about the package, not about a model. Needs no network. Run
`python benchmarks/standard_tests.py --help` for the settings.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from side_by_side import OURS, THEIRS, machine

ROOT = Path(__file__).resolve().parents[1]
SUITE = "benchmarks/standard_suite.py"
LIBRARIES = ("langchain-tests", "langchain-core", "langchain-huggingface", "transformers", "torch")
OUTCOMES = ("passed", "failed", "xfailed", "skipped")
FINISHED = (0, 1)  # pytest's exit codes for a run whose tests passed, or not all


@dataclass(frozen=True)
class Outcome:
    """How the tests of one package ended.

    Attributes:
        counts: How many, by outcome.
        failed: The names of those that failed.
    """

    counts: dict[str, int]
    failed: tuple[str, ...]


def run(package: str, model: Path) -> Outcome:
    """Runs all tests with one package, in a new process.

    Raises:
        SystemExit: pytest did not come to an end, or a test broke before it began.
    """
    command = [sys.executable, "-m", "pytest", SUITE, "-q", "-rfE", "--tb=no", "-W", "ignore", "-p", "no:cacheprovider"]
    names = {"STANDARD_TESTS_PACKAGE": package, "STANDARD_TESTS_MODEL": str(model), "HF_HUB_OFFLINE": "1"}
    # Wide enough for the names of tests.
    environment = {**os.environ, **names, "COLUMNS": "300"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    counts = {name: int(count) for count, name in re.findall(r"(\d+) ([a-z]+)", done.stdout.splitlines()[-1])}
    if done.returncode not in FINISHED or not counts.keys() <= {*OUTCOMES, "in"}:
        raise SystemExit(done.stdout + done.stderr)
    failed = re.findall(r"^FAILED \S+?::(\S+)", done.stdout, flags=re.MULTILINE)
    return Outcome({name: counts.get(name, 0) for name in OUTCOMES}, tuple(failed))


def table(outcomes: dict[str, Outcome]) -> str:
    """The counts, in Markdown."""
    lines = ["| | langchain-huggingface | langchain-localhf |", "|---|---|---|"]
    lines += [f"| {name} | {outcomes[THEIRS].counts[name]} | {outcomes[OURS].counts[name]} |" for name in OUTCOMES]
    measured = ", ".join(f"{name} {value}" for name, value in machine(LIBRARIES).items())
    return "\n".join([*lines, "", f"Machine: {measured}."])


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--failed", action="store_true", help="also name the tests that failed")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "tests"))
    from support import trained_model  # noqa: PLC0415 - only now is it to be found

    outcomes = {package: run(package, trained_model.folder()) for package in (THEIRS, OURS)}
    print(table(outcomes))
    if arguments.failed:
        for package, outcome in outcomes.items():
            print(f"\n{package} failed:" if outcome.failed else f"\n{package} failed none.")
            print("\n".join(f"- {name}" for name in outcome.failed))


if __name__ == "__main__":
    main()
