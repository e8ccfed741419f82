"""How the benchmark talks to its workers: one JSON object a line, on a worker's standard input and output.

Each contestant runs in a process and an environment of its own, and waits between two requests, so that the
contestants can take turns. Only Python's own library is imported here: what a start costs belongs to the contestant.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# What waiting threads do is left to each library, and no contestant looks for anything outside this machine.
_REMOVED = {"OMP_WAIT_POLICY", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}


def serve(commands: Mapping[str, Callable[..., Any]]) -> None:
    """Answers requests until there are no more; what libraries print goes to the standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(commands[request.pop("do")](**request)), file=answers, flush=True)


class Worker:
    """A contestant's process.

    Args:
        python: The interpreter of the contestant's environment.
        script: The worker's file, beside this one.
        settings: What it is started with.
        environment: Environment variables that it gets besides ours.
    """

    def __init__(self, python: Path, script: str, settings: Any, environment: Mapping[str, str] | None = None) -> None:  # noqa: ANN401 - JSON
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed with the worker
        kept = {name: value for name, value in os.environ.items() if name not in _REMOVED}
        self._process = subprocess.Popen(  # noqa: S603 - our own
            [str(python), str(Path(__file__).with_name(script)), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**kept, **_OFFLINE, **(environment or {})},
            text=True,
        )

    def ask(self, do: str, **arguments: object) -> Any:  # noqa: ANN401 - whatever the worker answers
        """Sends one request and waits for its answer.

        Raises:
            SystemExit: The worker ended instead; with what it printed.
        """
        assert self._process.stdin, self._process.stdout  # noqa: S101 - both are pipes
        try:
            print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._log.seek(0)
            raise SystemExit(f"a worker failed:\n{self._log.read()}")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process: there are no more requests."""
        self._process.communicate()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
