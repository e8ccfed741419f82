"""How a run ends: as a process, with a terminal, a pipe or a signal at the other end."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner
from support.fake_hub import TINY as NAME
from support.fake_hub import running_hub

from langchain_localhf import provisioning
from langchain_localhf.cli import main
from langchain_localhf.errors import LocalHFError

if TYPE_CHECKING:
    from pathlib import Path

LOCALHF = [sys.executable, "-m", "langchain_localhf.cli"]


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a process of its own."""
    command = [*LOCALHF, *map(str, arguments)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603


def add_bare(tiny: Path) -> None:
    """Brings the tiny model into the store, with a prompt that is no ASCII."""
    path = tiny / "config_sentence_transformers.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "prompts": {"query": "größe: "}}))
    provisioning.add(tiny, "tiny")


def test_help_is_fast_and_short() -> None:
    """Nothing heavy is imported before a command runs, and no help line is cut off."""
    code = "import sys, langchain_localhf.cli; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout  # noqa: S603
    heavy = {"torch", "transformers", "langchain_core", "huggingface_hub", "pydantic", "numpy", "safetensors"}
    assert [name for name in heavy if f"'{name}'" in imported] == []
    result = run("--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert "..." not in result.stdout.partition("Commands:")[2]
    commands = [line.split()[0] for line in result.stdout.partition("Commands:\n")[2].splitlines()]
    assert commands == ["add", "compile", "list", "lock", "pack", "pull", "remove", "serve", "show", "verify"]


def test_version() -> None:
    """The name and the version of the package."""
    result = run("--version")
    assert (result.returncode, result.stdout.split()[0]) == (0, "localhf")


def test_without_a_command() -> None:
    """The help, and no word of an error."""
    result = run()
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: ")
    assert "\n  pull " in result.stdout


def test_missing_model() -> None:
    """The error of the library, on stderr, with exit code 1 and no traceback."""
    result = run("show", "org/nowhere")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: org/nowhere is not on this machine")
    assert result.stderr.endswith("\n\nhint: bring it here once, with a network: localhf pull org/nowhere\n")


def test_debugging_shows_the_traceback() -> None:
    """Only who asks for it sees where an error came from."""
    result = run("show", "org/nowhere", LOCALHF_DEBUG="1")
    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "ModelNotFoundError" in result.stderr


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_output_suits_the_terminal(tiny: Path, encoding: str) -> None:
    """A character that the terminal does not know is escaped, not a crash."""
    add_bare(tiny)
    result = run("show", "tiny", LC_ALL="C", PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert (result.returncode, result.stderr) == (0, "")
    assert ("größe" if encoding == "utf-8" else r"gr\xf6\xdfe") in result.stdout


def test_reader_that_goes_away(tiny: Path) -> None:
    """`localhf show … | head -0` ends without a word."""
    provisioning.add(tiny, "tiny")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        command = [*LOCALHF, "show", "tiny"]
        result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=60)  # noqa: S603
    assert (result.returncode, result.stderr) == (1, b"")


@pytest.mark.loopback
def test_interrupted_pull(tiny: Path, monkeypatch: pytest.MonkeyPatch, store_home: Path) -> None:
    """Ctrl-C in the middle of a download ends it at once, quietly, with 130; what has arrived is kept."""
    with running_hub(monkeypatch) as hub:
        hub.upload(NAME, tiny)
        hub.seconds_per_chunk["model.safetensors"] = 2
        process = subprocess.Popen([*LOCALHF, "pull", NAME], stderr=subprocess.PIPE)  # noqa: S603 - this project's own
        deadline = time.monotonic() + 60
        while "model.safetensors" not in hub.fetched():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=10)
    assert process.returncode == 130
    assert b"Traceback" not in stderr
    assert b"error" not in stderr
    assert not (store_home / NAME).exists()


@pytest.mark.parametrize(
    ("error", "exit_code", "text"),
    [
        (LocalHFError("what", hint="how"), 1, "error: what\n\nhint: how\n"),
        (PermissionError(errno.EACCES, "Permission denied", "/models"), 1, "error: Permission denied: /models\n"),
        (OSError("no words"), 1, "error: no words\n"),
        (click.ClickException("plain"), 1, "error: plain\n"),
        (KeyboardInterrupt(), 130, "\n"),
        (
            ZeroDivisionError("division by zero"),
            1,
            (
                "error: ZeroDivisionError: division by zero\n\n"
                "hint: this is a mistake in localhf; LOCALHF_DEBUG=1 shows where it is, please report it\n"
            ),
        ),
    ],
)
def test_every_error_has_words_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, exit_code: int, text: str
) -> None:
    """One table; nothing ends in a traceback."""

    def fail() -> None:
        raise error

    monkeypatch.setattr(provisioning, "models", fail)
    result = CliRunner().invoke(main, ["list"])
    assert (result.exit_code, result.stdout, result.stderr) == (exit_code, "", text)
