"""The way of `examples/air-gapped`: what its page says, on a machine with a hub and on one without a network."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support import checkpoints
from support.containers import PYTHON, Image, container, require_namespaces
from support.fake_hub import running_hub
from support.installing import install

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "air-gapped"
README = (EXAMPLE / "README.md").read_text(encoding="utf-8")
MODEL = "sentence-transformers/all-MiniLM-L6-v2"
_SHELL = ("bash", "-ec")
# What it brings is there already, as far as `installing.py` goes.
_NO_PIP = "pip() { :; }\n"


def commands(heading: str) -> str:
    """The commands of a section of the page."""
    section = README.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return "\n".join(line.removeprefix("$ ") for line in section.splitlines() if line.startswith("$ "))


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where everything was packed beside a hub, with and without a compiled graph."""
    folder = tmp_path_factory.mktemp("outside")
    shutil.copytree(EXAMPLE, folder / "examples" / "air-gapped")
    with pytest.MonkeyPatch.context() as environment, running_hub(environment) as hub:
        hub.upload(MODEL, checkpoints.sentence_transformer(tmp_path_factory.mktemp("model") / "tiny"))
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        script = _NO_PIP + commands("Where there is a network")
        subprocess.run(  # noqa: S603 - the page's
            [*_SHELL, script],
            cwd=folder,
            env={**os.environ, "PATH": path, "OMP_WAIT_POLICY": "PASSIVE"},
            check=True,
            capture_output=True,
        )
    return folder


@pytest.fixture(scope="module")
def machine(outside: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The machine without a network: it has the file, the lockfile, and what pip finds in the wheels."""
    require_namespaces()
    image = Image.python(tmp_path_factory.mktemp("inside") / "root")
    home = image.path("/home")
    home.mkdir()
    [requirement] = re.findall(r"pip install --no-index .* \"(.*)\"$", commands("Where there is none"), re.MULTILINE)
    pip_install(image, requirement)
    for name in ("carry.tar", "localhf.lock"):
        shutil.copy(outside / name, home)
    shutil.copytree(outside / "carry", home / "carry")  # which the page removes, to begin where the other machine does
    return Image(image.root, image.environment, workdir="/home")


def pip_install(image: Image, requirement: str) -> None:
    """Installs what a requirement brings."""
    python = image.path(PYTHON)
    install(requirement, next(python.glob("lib/python3.*/site-packages")), python / "bin")


def ran(image: Image, script: str) -> subprocess.CompletedProcess[str]:
    """What commands say on that machine."""
    with container(image, read_only=False) as here:
        return here.run([*_SHELL, _NO_PIP + script])


def test_everything_arrives(machine: Image, tmp_path: Path) -> None:
    """It is as it was packed, as it was locked, and answers; nothing of it needs torch."""
    image = machine.copy(tmp_path / "root")
    done = ran(image, commands("Where there is none"))
    assert done.returncode == 0, done.stderr
    verified, path, answer = done.stdout.splitlines()
    assert (verified, path) == (f"ok  {MODEL}", f"/home/carry/models/{MODEL}")
    assert f"{MODEL} is here already, byte for byte as locked" in done.stderr
    assert answer.endswith(".")
    assert ran(image, "python -c 'import torch'").returncode == 1
    # The lockfile comes by another way.
    assert "localhf.lock" not in {path.name for path in image.path("/home/carry").rglob("*")}


def test_a_changed_byte(machine: Image, tmp_path: Path) -> None:
    """The commands of the page find it; the program ends with words."""
    image = machine.copy(tmp_path / "root")
    *before, program = commands("What a changed byte looks like").replace("seek=1000000", "seek=1000").splitlines()
    done = ran(image, "\n".join(before))
    assert done.stdout == f"differs  {MODEL}\n  changed  openvino/model.bin\nexit code 1\n"
    done = ran(image, f"export LOCALHF_HOME=changed\n{program}")
    assert (done.returncode, done.stdout) == (1, "")
    words = f"error: the files of {MODEL} differ from its manifest (1 changed: openvino/model.bin)\n\nhint: "
    assert done.stderr.startswith(words)


def change(model: Path, file: str, *, manifest: bool = False) -> None:
    """Changes the last byte of a file, and says so in the manifest, as someone would who does not want it known."""
    path = model / file
    old = hashlib.sha256(path.read_bytes()).hexdigest()
    checkpoints.flip_byte(path)
    if manifest:
        stated = (model / "localhf.json").read_text(encoding="utf-8")
        assert old in stated
        new = hashlib.sha256(path.read_bytes()).hexdigest()
        (model / "localhf.json").write_text(stated.replace(old, new), encoding="utf-8")


def found_by(image: Image) -> list[str]:
    """What each of three looks at the model says, as the table words it; nothing where all seems well."""
    looks = {
        "differs": "localhf verify",
        "`IntegrityError`": "python carry/answer.py",
        "fails": "localhf pull --locked",
    }
    export = "export LOCALHF_HOME=carry/models HF_HUB_OFFLINE=1\n"
    return [word if ran(image, export + command).returncode else "" for word, command in looks.items()]


@pytest.mark.parametrize(
    ("row", "tamper"),
    [
        ("a file of the compiled graph", lambda model: change(model, "openvino/model.bin")),
        (
            "a file that is not read, such as the weights beside a graph",
            lambda model: change(model, "model.safetensors"),
        ),
        (
            "a file of the model, and its hash in the model's manifest",
            lambda model: change(model, "model.safetensors", manifest=True),
        ),
        ("the graph, and its hash in the manifest", lambda model: change(model, "openvino/model.bin", manifest=True)),
    ],
)
def test_what_finds_what(machine: Image, tmp_path: Path, row: str, tamper: Callable[[Path], None]) -> None:
    """The rows of the page's table are so."""
    image = machine.copy(tmp_path / "root")
    tamper(image.path("/home/carry/models") / MODEL)
    assert f"| {row} | {' | '.join(found_by(image))} |".replace("|  |", "| |").replace("|  |", "| |") in README


def test_what_finds_changed_weights(machine: Image, tmp_path: Path) -> None:
    """The row of the page's table for a model that was not compiled, and runs in torch."""
    image = machine.copy(tmp_path / "root")
    pip_install(image, "langchain-localhf[torch]")
    model = image.path("/home/carry/models") / MODEL
    checkpoints.edit_json(model / "localhf.json", compiled=None)
    shutil.rmtree(model / "openvino")
    assert found_by(image) == ["", "", ""]
    change(model, "model.safetensors")
    row = "a file of the model that is read, such as the weights without a graph"
    assert f"| {row} | {' | '.join(found_by(image))} |" in README
