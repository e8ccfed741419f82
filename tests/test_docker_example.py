"""The image of `examples/docker`, built and run as far as that goes without Docker."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from support import checkpoints
from support.containers import Container, Image, container, require_namespaces, unreadable
from support.fake_hub import running_hub
from support.images import Builder, instructions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.fake_hub import FakeHub

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "docker"
MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@contextlib.contextmanager
def hub() -> Iterator[FakeHub]:
    """A hub with a tiny model under the name that the Dockerfile uses."""
    with (
        pytest.MonkeyPatch.context() as environment,
        running_hub(environment) as running,
        TemporaryDirectory() as folder,
    ):
        running.upload(MODEL, checkpoints.sentence_transformer(Path(folder) / "tiny"))
        yield running


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, from a wheel of a checkout, as the README says."""
    require_namespaces()
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    [wheel] = [word.removeprefix("LOCALHF=") for word in readme.split() if word.startswith("LOCALHF=")]
    with hub():
        return Builder(tmp_path_factory.mktemp("images"), arguments={"LOCALHF": wheel}).build(EXAMPLE / "Dockerfile")


def documented(program: str, image: str = "localhf") -> list[list[str]]:
    """What the README runs in a container by `docker run` or `docker exec`: the words after the container's name."""
    lines = (EXAMPLE / "README.md").read_text(encoding="utf-8").splitlines()
    commands = [shlex.split(line) for line in lines if line.startswith(f"$ {program} ")]
    return [command[len(command) - command[::-1].index(image) :] for command in commands]


def wait_until_healthy(here: Container, process: subprocess.Popen[str]) -> None:
    """Reads the line that the server writes when it is ready; before that, it is not healthy."""
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("serving at http://0.0.0.0:8080: text"), line + process.stderr.read()
    assert here.is_healthy()


@pytest.mark.loopback
def test_the_service(image: Image) -> None:
    """It starts without a network, torch, rights or a place to write; it is healthy as long as it runs."""
    with container(image) as here:
        assert not here.is_healthy()
        with here.service() as process:
            wait_until_healthy(here, process)
            [command] = documented("docker exec")
            answer = here.run(command)
            assert (answer.returncode, MODEL in answer.stdout) == (0, True), answer.stderr
        assert not here.is_healthy()


@pytest.mark.loopback
def test_one_answer(image: Image) -> None:
    """The command of the README, in place of the service; the file system and the network are as it says."""
    with container(image) as here:
        command = next(command for command in documented("docker run") if command)
        assert command[0] == "python"
        done = here.run(command)
        assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
        probe = (
            "import importlib.util as u, os, pathlib, socket\n"
            "print(os.getuid(), [n for n in ('torch', 'transformers', 'nncf') if u.find_spec(n)])\n"
            "print([name for _, name in socket.if_nameindex()])\n"
            "for folder in ('/', '/tmp', '/models', '/app'):\n"
            "    try: pathlib.Path(folder, 'new').touch()\n"
            "    except OSError as error: print(error.strerror)\n"
        )
        assert here.run(["python", "-c", probe]).stdout.splitlines() == [
            "65534 []",
            "['lo']",
            *["Read-only file system"] * 4,
        ]


@pytest.mark.loopback
def test_the_lockfile(tmp_path: Path) -> None:
    """With one beside the Dockerfile, a newer commit changes nothing; other bytes in the locked one end the build."""
    require_namespaces()
    dockerfile = shutil.copytree(EXAMPLE, tmp_path / "context") / "Dockerfile"
    command = [
        sys.executable,
        "-m",
        "langchain_localhf.cli",
        "pull",
        MODEL,
        "--lock",
        str(tmp_path / "context" / "localhf.lock"),
    ]
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    with hub() as running:
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own
        repository = running.repositories[MODEL]
        [locked] = repository.commits
        repository.commit(repository.commits[locked] | {"config.json": b"{}"})
        image = Builder(tmp_path / "first").build(dockerfile)
        assert locked in (image.path("/models") / MODEL / "localhf.json").read_text(encoding="utf-8")

        repository.commits[locked]["config.json"] += b" "
        with pytest.raises(AssertionError, match="the hub has other files for"):
            Builder(tmp_path / "second").build(dockerfile)


def test_the_final_stage() -> None:
    """It installs what runs, and runs as a user that an orchestrator sees is not root."""
    lines = instructions(EXAMPLE / "Dockerfile")
    last = lines[max(number for number, line in enumerate(lines) if line.word == "FROM") :]
    assert [line.rest for line in last if line.word == "RUN"] == [
        'pip install --no-cache-dir "${LOCALHF}[openvino,serve]"'
    ]
    assert [line.rest for line in last if line.word == "USER"] == ["65534:65534"]
    assert [line.rest for line in last if line.word == "EXPOSE"] == ["8080"]


def test_others_may_read(image: Image) -> None:
    """What the image brings belongs to root, and its user is another."""
    for folder in ("/models", "/app"):
        assert unreadable(image.path(folder)) == []


@pytest.mark.loopback
def test_with_torch(tmp_path: Path) -> None:
    """The guide's way for a model that cannot be compiled: one folder in memory more, and all else as before."""
    require_namespaces()
    text = (EXAMPLE / "Dockerfile").read_text(encoding="utf-8")
    for old, new in {
        "[openvino,serve]": "[torch]",
        "--from=model /models": "--from=model /build/models",
        " --compile": "",
        "RUN localhf pack": "# RUN localhf pack",
    }.items():
        assert old in text
        text = text.replace(old, new)
    context = shutil.copytree(EXAMPLE, tmp_path / "context")
    (context / "Dockerfile").write_text(text, encoding="utf-8")
    (tmp_path / "images").mkdir()
    with hub():
        image = Builder(tmp_path / "images").build(context / "Dockerfile")
    assert unreadable(image.path("/models")) == []
    command = ["python", "/app/app.py", "Where do the ships lie?"]
    with container(image, tmpfs=["/tmp"]) as here:  # noqa: S108 - the container's
        assert here.run(command).returncode == 0
    with container(image) as here:
        assert "No usable temporary directory found" in here.run(command).stderr


def test_the_guide() -> None:
    """What it shows of a Dockerfile stands in the one that the tests carry out."""
    guide = (ROOT / "docs" / "guides" / "container.md").read_text(encoding="utf-8")
    dockerfile = (EXAMPLE / "Dockerfile").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in guide.split("```dockerfile\n")[1:]]
    assert len(blocks) == 3
    assert [block for block in blocks if block not in dockerfile] == []
