"""The exporter's programs: finding `optimum-cli`, running it, and reading from its log why it failed.

optimum-intel wants an older transformers than ours, and torch, so it lives in an environment of its own and is never
imported: its programs run as processes, offline.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING

from langchain_localhf.errors import (
    CheckpointError,
    EngineError,
    EngineNotInstalledError,
    LocalHFError,
    UnsupportedModelError,
)
from langchain_localhf.store.disk import formatted_size, free_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# An environment that a reader can paste; the Makefile's export-env makes the same. torchvision is required by
# optimum-intel, not needed by language models, and breaks the import next to a torch without CUDA.
_INSTALLATION = """\
optimum-cli needs an environment of its own:
  python -m venv ~/optimum
  ~/optimum/bin/pip install "optimum-intel==2.2.0" "transformers>=5.5,<5.6" torch==2.13.0 nncf openvino-tokenizers
  ~/optimum/bin/pip uninstall -y torchvision
  export LOCALHF_OPTIMUM_CLI=~/optimum/bin/optimum-cli"""

_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_NO_EXPORTER = re.compile(r"invalid choice: 'openvino'|No module named 'optimum")
_UNWRITTEN = re.compile(r"iostream error|No space left|File too large|Disk quota")
_UNSUPPORTED = re.compile(
    r"only supports the tasks|does not recognize this architecture|unsupported architecture|not supported",
    re.IGNORECASE,
)
_MESSAGE_LENGTH = 600


def find_optimum_cli(configured: Path | None = None) -> Path:
    """The program that exports language models.

    Args:
        configured: What `LOCALHF_OPTIMUM_CLI` says; None to look on the PATH.

    Raises:
        EngineNotInstalledError: It is not there.
    """
    if configured is None:
        if found := shutil.which("optimum-cli"):
            return Path(found)
        raise EngineNotInstalledError("optimum-cli is not on the PATH", hint=_INSTALLATION)
    if not os.access(configured, os.X_OK) or configured.is_dir():
        msg = f"LOCALHF_OPTIMUM_CLI names {configured}, which is no program"
        raise EngineNotInstalledError(msg, hint=_INSTALLATION)
    return configured


def run(command: Sequence[str], *, scratch: Path, say: Callable[[str], None]) -> list[str]:
    """Runs a program of the exporter's environment to its end; an interrupt ends it, too.

    Args:
        command: The program and its arguments.
        scratch: A folder for its temporary files.
        say: Is told each line that it writes, at once.

    Raises:
        EngineNotInstalledError: The program cannot be run, or cannot export to OpenVINO.
        UnsupportedModelError: It knows no export for this kind of model.
        CheckpointError: It failed otherwise; the message has its own words.

    Returns:
        All lines that it wrote.
    """
    log = []
    try:
        child = subprocess.Popen(  # noqa: S603 - the user's own program, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(scratch),
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise EngineNotInstalledError(f"{command[0]} cannot be run: {error}", hint=_INSTALLATION) from error
    with child:
        try:
            for raw in child.stdout or ():
                if line := _TERMINAL_CODES.sub("", raw).rstrip():
                    log.append(line)
                    say(line)
        except BaseException:  # an interrupt above all: the exporter must not go on alone
            child.kill()
            raise
    if child.returncode:
        raise _failure(command, child.returncode, log, scratch)
    return log


def _environment(scratch: Path) -> dict[str, str]:
    """Our own environment without what belongs to this Python, offline, with every temporary file in `scratch`."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    return ours | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "CI": "true",  # the only switch of openvino-telemetry that needs no file in the user's home
        "HF_MODULES_CACHE": str(scratch / "modules"),
        "TMPDIR": str(scratch),  # a compressed model is first written whole, and /tmp may be small
        "TRANSFORMERS_VERBOSITY": "warning",  # it warns of weights that it makes up
        "PYTHONWARNINGS": "ignore",
        "PYTHONUTF8": "1",
    }


def by_hand(command: Sequence[str], scratch: Path) -> str:
    """The command as a user can run it, with `DIR` for what was in the scratch folder."""
    return shlex.join("DIR" if part.startswith(str(scratch)) else part for part in command)


def _failure(command: Sequence[str], status: int, log: Sequence[str], scratch: Path) -> LocalHFError:
    program = Path(command[0])
    cause = _cause(log) if status > 0 else f"it was ended by {_signal_name(-status)}"
    if _NO_EXPORTER.search(cause):
        return EngineNotInstalledError(f"{program} cannot export to OpenVINO: {cause}", hint=_INSTALLATION)
    if "torchvision" in cause:
        hint = f"{program.resolve().with_name('pip')} uninstall -y torchvision"
        return EngineError(f"the environment of {program} is broken: {cause}", hint=hint)
    hint = f"its whole log may say more: {by_hand(command, scratch)}"
    if _UNWRITTEN.search(cause):
        hint = f"make room on the disk of {scratch.parent}, which has {formatted_size(free_bytes(scratch))} free"
    kind = UnsupportedModelError if _UNSUPPORTED.search(cause) else CheckpointError
    return kind(f"{program.name} failed: {cause}", hint=hint)


def _signal_name(number: int) -> str:
    name = signal.Signals(number).name
    return f"{name}, as where memory runs out" if name == "SIGKILL" else name


def _cause(log: Sequence[str]) -> str:
    """The last exception in a log and what it was raised from, or the last lines where there is none."""
    last = "\n".join(log).rpartition("During handling of the above exception, another exception occurred:")[2]
    chain = last.split("The above exception was the direct cause of the following exception:")
    return ", from ".join(filter(None, map(_message, reversed(chain)))) or "it says nothing"


def _message(part: str) -> str:
    _, found, traceback = part.rpartition("Traceback (most recent call last):\n")
    if not found:
        return " ".join(part.splitlines()[-3:])[-_MESSAGE_LENGTH:]
    after_frames = dropwhile(lambda line: line.startswith(" "), traceback.splitlines())
    return " ".join(line.strip() for line in after_frames)[:_MESSAGE_LENGTH]
