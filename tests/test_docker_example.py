"""The container of `examples/docker`, as far as it goes without Docker: its commands, and its application."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.fake_hub import running_hub

EXAMPLE = Path(__file__).parent.parent / "examples" / "docker"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
# As where only the slim extra is installed, and no network is there.
SLIM = """
import runpy, sys
for name in ("torch", "transformers", "sentence_transformers", "nncf"):
    sys.modules[name] = None
def refuse(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        raise OSError(f"no network: {event}")
    if event == "open" and arguments[2] & 3:
        raise OSError(f"read-only: {arguments[0]}")
sys.addaudithook(refuse)
sys.argv[:] = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage, as pairs of a word and what follows."""
    text = (EXAMPLE / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    found: list[list[tuple[str, str]]] = []
    for word, rest in lines:
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def said(stage: list[tuple[str, str]], word: str) -> list[str]:
    """What the instructions with this word say."""
    return [rest for one, rest in stage if one == word]


@pytest.mark.loopback
@pytest.mark.parametrize("locked", [False, True])
def test_commands_and_application(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, locked: bool) -> None:
    """The model is pulled, compiled, packed and verified; the application runs on that, with nothing else."""
    building, running = stages()
    scripts = Path(sys.executable).parent
    (tmp_path / "build").mkdir()
    shutil.copy(EXAMPLE / "app.py", tmp_path / "build")

    def here(text: str) -> str:
        return (
            text.replace("/build", f"{tmp_path}/build")
            .replace(" /models", f" {tmp_path}/models")
            .replace("=/models", f"={tmp_path}/models")
        )

    def run(command: str) -> None:
        variables = dict(here(line).split("=", 1) for line in said(building, "ENV"))
        environment = {**os.environ, **variables, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
        subprocess.run(["/bin/sh", "-ec", here(command)], env=environment, check=True, capture_output=True)  # noqa: S603

    with running_hub(monkeypatch) as hub:
        hub.upload(MODEL, tiny)
        if locked:
            run("cd /build && localhf pull all-MiniLM-L6-v2 --lock localhf.lock && rm -r models")
        for command in said(building, "RUN"):
            if not command.startswith("pip install"):
                run(command)

    assert said(running, "COPY")[0] == "--from=model /models /models"
    [variable] = said(running, "ENV")
    application = [sys.executable, "-c", SLIM, str(EXAMPLE / "app.py"), "Where is the harbour?"]
    done = subprocess.run(  # noqa: S603 - our own
        application,
        env=dict([here(variable).split("=", 1)]),
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.stdout.startswith("32 dimensions: [")


def test_the_final_stage_has_no_torch() -> None:
    """It installs the slim extra only, whose packages `test_slim_install.py` goes through, and runs as nobody."""
    building, running = stages()
    assert said(running, "RUN") == ['pip install --no-cache-dir "langchain-localhf[openvino]"']
    assert '"langchain-localhf[compile]"' in said(building, "RUN")[0]
    assert said(running, "USER") == ["nobody"]
