"""The images of `examples/weaviate`, as far as they go without Docker: their commands, and what they start."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support import checkpoints, dual_encoders
from support.fake_hub import running_hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLE = Path(__file__).parent.parent / "examples" / "weaviate"
CLIP, TEXT, RERANKER = (
    "sentence-transformers/clip-ViT-B-32",
    "sentence-transformers/all-MiniLM-L6-v2",
    "cross-encoder/ms-marco-MiniLM-L6-v2",
)
_USER = 10001
# In a container with a read-only file system, but for /tmp, and without a way out; torch where it is installed.
CONTAINER = """
import os, sys
for name in sys.argv.pop(1).split():
    sys.modules[name] = None
writes = {"os.mkdir", "os.rename", "os.remove", "os.link", "os.symlink", "os.truncate"}
def refuse(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"} and "0.0.0.0" not in str(arguments):
        raise OSError(f"no network: {event} {arguments}")
    if event in writes or (event == "open" and arguments[2] & 3):
        if not str(arguments[0]).startswith((os.environ["HOME"], "/dev/")):
            raise OSError(f"read-only: {event} {arguments[0]}")
sys.addaudithook(refuse)
from langchain_localhf.cli import main
main()
"""
NO_TORCH = "torch transformers sentence_transformers nncf"


def instructions(name: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, as pairs of a word and what follows."""
    text = (EXAMPLE / name).read_text(encoding="utf-8").replace("\\\n", "")
    lines = (line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#"))
    return [(word, rest.strip()) for word, rest in lines]


def said(name: str, word: str) -> list[str]:
    """What the instructions with this word say."""
    return [rest for one, rest in instructions(name) if one == word]


class Container:
    """What an image of this example holds below `/app`, in a folder that its user may write to while it is built.

    Args:
        root: The folder that stands for `/`.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.app = root / "app"
        (self.app / "models").mkdir(parents=True)
        (root / "tmp").mkdir()
        shutil.copy(EXAMPLE / "download.py", self.app)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of the image, and the hub of the test."""
        stated = [pair.split("=", 1) for line in said("Dockerfile", "ENV") for pair in line.split()]
        variables = {name: self.here(value) for name, value in stated}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        hub = {name: os.environ[name] for name in ("HF_ENDPOINT", "HF_HUB_DISABLE_TELEMETRY") if name in os.environ}
        return {"PATH": path, "OMP_WAIT_POLICY": "PASSIVE", "TMPDIR": variables["HOME"], **variables, **hub}

    def here(self, text: str) -> str:
        """A path or a command of the image, in this folder."""
        return text.replace("/app", str(self.app)) if "/app" in text else text.replace("/tmp", f"{self.root}/tmp")  # noqa: S108

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Runs a RUN line in /app."""
        return subprocess.run(  # noqa: S603 - our own
            [*as_somebody(), "/bin/sh", "-ec", self.here(command)],
            cwd=self.app,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def build(self, name: str) -> None:
        """Runs the RUN lines of a Dockerfile, but for those that install."""
        for command in said(name, "RUN"):
            done = self.run(command)
            assert done.returncode == 0, done.stderr

    @contextlib.contextmanager
    def started(self, *, without: str = "") -> Iterator[tuple[str, str]]:
        """Runs the CMD of the base image, at a free port: its address, and what it said when it was ready."""
        program, *arguments = json.loads(said("Dockerfile", "CMD")[0])
        assert program == "localhf"
        command = [*as_somebody(), sys.executable, "-c", CONTAINER, without, *map(self.here, arguments), "--port", "0"]
        with (
            read_only(self.app),
            subprocess.Popen(  # noqa: S603 - our own
                command, cwd=self.app, env=self.environment, stderr=subprocess.PIPE, text=True
            ) as process,
        ):
            assert process.stderr is not None
            try:
                line = process.stderr.readline()
                assert line.startswith("serving at http://0.0.0.0:"), line + process.stderr.read()
                yield line.split()[2].removesuffix(":").replace("0.0.0.0", "localhost"), line  # noqa: S104 - as it says
            finally:
                process.terminate()
        assert process.returncode == 0


@cache
def as_somebody() -> tuple[str, ...]:
    """What makes a command that of a nameless user without any rights, where an administrator runs the tests."""
    prefix = ("unshare", "--user", f"--map-user={_USER}", f"--map-group={_USER}")
    if os.geteuid() != 0 or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:  # noqa: S603
        return ()
    return prefix


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Takes the right to write below a folder from everybody."""
    paths = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)


@pytest.fixture
def container() -> Iterator[Container]:
    """An image of this example before its Dockerfile runs."""
    with TemporaryDirectory(ignore_cleanup_errors=True) as root:
        yield Container(Path(root))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hub with tiny models under the names that the Dockerfiles use."""
    makers: dict[str, Callable[[Path], Path]] = {
        CLIP: dual_encoders.st_clip,
        TEXT: checkpoints.sentence_transformer,
        RERANKER: checkpoints.cross_encoder,
    }
    with running_hub(monkeypatch) as running:
        for number, (name, make) in enumerate(makers.items()):
            running.upload(name, make(tmp_path / str(number)))
        yield


def documented(url: str) -> dict[str, Any]:
    """What the server answers to the check in the README, word by word, but for the address."""
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if line.startswith("$ curl localhost:9090/vectors ")]
    command = shlex.split(line.removeprefix("$ ").replace("localhost:9090", url))
    assert command[0] == "curl"
    done = subprocess.run([*command, "--silent"], capture_output=True, check=True)  # noqa: S603 - as documented
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


def is_healthy(url: str) -> bool:
    """What the HEALTHCHECK of the base image says about a server at this address."""
    [stated] = [rest.partition("CMD ")[2] for rest in said("Dockerfile", "HEALTHCHECK")]
    program, *arguments = [part.replace("http://127.0.0.1:8080", url) for part in json.loads(stated)]
    assert program == "python"
    return subprocess.run([sys.executable, *arguments], capture_output=True, check=False).returncode == 0  # noqa: S603


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_the_recipe_for_a_public_model(container: Container) -> None:
    """It is pulled and compiled by the line that the container's users know, and served from a read-only place."""
    container.build("Dockerfile.public")
    models = container.app / "models"
    assert sorted(path.name for path in models.iterdir()) == ["clip", "text"]
    assert (models / "text").readlink() == Path("clip")
    with container.started() as (url, line):
        assert line.endswith(f": clip {CLIP} (openvino)\n")
        reply = documented(url)
        assert is_healthy(url)
    assert (reply["text"], reply["dim"], len(reply["vector"])) == ("foo bar", 16, 16)
    assert not is_healthy(url)


@pytest.mark.loopback
def test_the_recipe_for_folders_of_ones_own(container: Container, tmp_path: Path) -> None:
    """Plain folders, copied to where the containers have theirs."""
    makers = {"./my-clip": dual_encoders.clip, "./my-text": dual_encoders.text_tower}
    copies = [line.split() for line in said("Dockerfile.private", "COPY")]
    assert {source for source, _ in copies} == makers.keys()
    for source, target in copies:
        shutil.copytree(makers[source](tmp_path / source), container.here(target))
    with container.started() as (url, line):
        assert line.endswith(": clip clip (torch), clip-text text (torch)\n")
        assert documented(url)["dim"] == 16


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_one_server_for_all_modules(container: Container) -> None:
    """What was compiled is served without torch, for each module from its own model."""
    container.build("Dockerfile.all")
    models = container.app / "models"
    assert sorted(path.name for path in models.iterdir()) == ["clip", "model", "reranker", "text"]
    assert not list(models.rglob("model.safetensors"))
    with container.started(without=NO_TORCH) as (url, line):
        assert line.endswith(f": clip {CLIP} (openvino), text {TEXT} (openvino), rerank {RERANKER} (openvino)\n")
        assert documented(url)["dim"] == 32


def test_the_recipes_in_the_readme() -> None:
    """They are those of the Dockerfiles."""
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    for name in ("Dockerfile.public", "Dockerfile.private"):
        recipe = "\n".join(f"{word} {rest}" for word, rest in instructions(name))
        assert f"```dockerfile\n{recipe}\n```" in readme


def test_the_base_images() -> None:
    """No torch in the slim one; neither runs as an administrator, nor by way of a shell, which would keep signals."""
    slim, _, base = (EXAMPLE / "Dockerfile").read_text(encoding="utf-8").partition("FROM slim AS base")
    assert ('"langchain-localhf[serve,openvino]"' in slim, "torch" in slim.partition("FROM ")[2]) == (True, False)
    assert '"langchain-localhf[serve,compile]"' in base
    assert slim.rindex("USER 10001:10001") > slim.rindex("RUN ")
    assert base.rindex("USER 10001:10001") > base.rindex("COPY ")
    [command] = said("Dockerfile", "CMD")
    assert json.loads(command)[:2] == ["localhf", "serve"]
    assert said("Dockerfile", "EXPOSE") == ["8080"]


def test_the_composition() -> None:
    """Every module asks the one server, which is ready before Weaviate starts, and may write nowhere but to /tmp."""
    services = yaml.safe_load((EXAMPLE / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    weaviate, localhf = services["weaviate"], services["localhf"]
    addresses = {value for name, value in weaviate["environment"].items() if name.endswith("_INFERENCE_API")}
    assert addresses == {"http://localhf:8080"}
    assert weaviate["depends_on"] == {"localhf": {"condition": "service_healthy"}}
    assert (localhf["read_only"], localhf["tmpfs"], localhf["cap_drop"]) == (True, ["/tmp"], ["ALL"])  # noqa: S108
    assert localhf["ports"] == ["127.0.0.1:9090:8080"]
    assert localhf["build"]["dockerfile"] == "Dockerfile.all"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ("", "error: name a model: CLIP_MODEL_NAME, TEXT_MODEL_NAME, SIGLIP_MODEL_NAME, MODEL_NAME"),
        ("TEXT_MODEL_NAME=a", "error: TEXT_MODEL_NAME goes with CLIP_MODEL_NAME"),
        ("OPEN_CLIP_MODEL_NAME=ViT-B-16 OPEN_CLIP_PRETRAINED=a", "error: OPEN_CLIP_MODEL_NAME, OPEN_CLIP_PRETRAINED: "),
        ("MODEL_NAME=a TRUST_REMOTE_CODE=maybe", "error: TRUST_REMOTE_CODE is 'maybe'; use true or false"),
    ],
)
def test_what_is_not_downloaded(container: Container, variables: str, words: str) -> None:
    """Words, and a build that fails."""
    done = container.run(f"{variables} ./download.py")
    assert (done.returncode, done.stderr[: len(words)]) == (1, words)
    assert list((container.app / "models").iterdir()) == []


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_a_model_that_is_not_there(container: Container) -> None:
    """The build fails with the words of `localhf pull`, and leaves nothing behind."""
    done = container.run("MODEL_NAME=org/nowhere TRUST_REMOTE_CODE=false ./download.py --pack")
    assert (done.returncode, "error: there is no org/nowhere on " in done.stderr) == (1, True)
    assert list((container.app / "models").iterdir()) == []
