"""The images of `examples/weaviate`, built and run as far as that goes without Docker."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support import checkpoints, dual_encoders
from support.containers import Container, Image, container, require_namespaces, unreadable
from support.fake_hub import running_hub
from support.images import Builder, instructions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLE = Path(__file__).parent.parent / "examples" / "weaviate"
CLIP, TEXT, RERANKER = (
    "sentence-transformers/clip-ViT-B-32",
    "sentence-transformers/all-MiniLM-L6-v2",
    "cross-encoder/ms-marco-MiniLM-L6-v2",
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    """The two images of the Dockerfile, by the names that the README gives them."""
    require_namespaces()
    builder = Builder(tmp_path_factory.mktemp("images"))
    dockerfile = EXAMPLE / "Dockerfile"
    return {
        "localhf-serve:base": builder.build(dockerfile),
        "localhf-serve:slim": builder.build(dockerfile, target="slim"),
    }


@pytest.fixture
def builder(images: dict[str, Image], tmp_path: Path) -> Builder:
    """What builds upon those two."""
    (tmp_path / "images").mkdir()
    return Builder(tmp_path / "images", images)


@pytest.fixture
def base(images: dict[str, Image], tmp_path: Path) -> Iterator[Container]:
    """A container of the base image that may be written to, and that reaches the hub: where a RUN line runs."""
    with container(images["localhf-serve:base"].copy(tmp_path / "copy"), network=True, read_only=False) as running:
        yield running


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


@contextlib.contextmanager
def served(image: Image) -> Iterator[tuple[Container, str]]:
    """The container as the README runs it, and the line that the server writes when it is ready."""
    with container(image, tmpfs=["/tmp"]) as running, running.service() as process:  # noqa: S108 - the container's
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("serving at http://0.0.0.0:8080: "), line + process.stderr.read()
        yield running, line


def documented(running: Container) -> dict[str, Any]:
    """What the server answers to the check in the README, word by word, but for the port, which is the inner one."""
    text = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    [line] = [line for line in text.splitlines() if line.startswith("$ curl localhost:9090/vectors ")]
    done = running.run([*shlex.split(line.removeprefix("$ ").replace(":9090", ":8080")), "--silent"])
    assert done.returncode == 0, done.stderr
    reply: dict[str, Any] = json.loads(done.stdout)
    return reply


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_the_recipe_for_a_public_model(builder: Builder) -> None:
    """It is pulled and compiled by the line that the container's users know, and served from a read-only place."""
    image = builder.build(EXAMPLE / "Dockerfile.public")
    models = image.path("/app/models")
    assert sorted(path.name for path in models.iterdir()) == ["clip", "text"]
    assert (models / "text").readlink() == Path("clip")
    with container(image) as idle:
        assert not idle.is_healthy()
    with served(image) as (running, line):
        assert line.endswith(f": clip {CLIP} (openvino)\n")
        reply = documented(running)
        assert running.is_healthy()
    assert (reply["text"], reply["dim"], len(reply["vector"])) == ("foo bar", 16, 16)


@pytest.mark.loopback
def test_the_recipe_for_folders_of_ones_own(builder: Builder, tmp_path: Path) -> None:
    """Plain folders, copied to where the containers have theirs."""
    dual_encoders.clip(tmp_path / "my-clip")
    dual_encoders.text_tower(tmp_path / "my-text")
    image = builder.build(Path(shutil.copy(EXAMPLE / "Dockerfile.private", tmp_path)))
    with served(image) as (running, line):
        assert line.endswith(": clip clip (torch), clip-text text (torch)\n")
        assert documented(running)["dim"] == 16


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_one_server_for_all_modules(builder: Builder) -> None:
    """What was compiled is served from an image without torch, for each module from its own model."""
    image = builder.build(EXAMPLE / "Dockerfile.all")
    models = image.path("/app/models")
    assert sorted(path.name for path in models.iterdir()) == ["clip", "model", "reranker", "text"]
    assert not list(models.rglob("model.safetensors"))
    assert unreadable(models) == []
    with served(image) as (running, line):
        assert line.endswith(f": clip {CLIP} (openvino), text {TEXT} (openvino), rerank {RERANKER} (openvino)\n")
        assert documented(running)["dim"] == 32
        probe = "import importlib.util as u, os; print(os.getuid(), u.find_spec('torch'), u.find_spec('transformers'))"
        assert running.run(["python", "-c", probe]).stdout == "10001 None None\n"
        assert running.run(["touch", "/app/models/new"]).stderr.endswith("Read-only file system\n")


def test_the_recipes_in_the_readme() -> None:
    """They are those of the Dockerfiles."""
    readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
    for name in ("Dockerfile.public", "Dockerfile.private"):
        recipe = "\n".join(f"{line.word} {line.rest}" for line in instructions(EXAMPLE / name))
        assert f"```dockerfile\n{recipe}\n```" in readme


@pytest.mark.parametrize("name", ["localhf-serve:base", "localhf-serve:slim"])
def test_the_base_images(images: dict[str, Image], name: str) -> None:
    """Neither runs as an administrator, nor by way of a shell, which would keep signals; torch is in the first only."""
    image = images[name]
    assert (image.user, image.command[:2], bool(image.healthcheck)) == (10001, ["localhf", "serve"], True)
    probe = "import importlib.util as u; print(u.find_spec('torch') is not None)"
    with container(image) as running:
        assert running.run(["python", "-c", probe]).stdout == f"{name.endswith(':base')}\n"


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
def test_what_is_not_downloaded(base: Container, variables: str, words: str) -> None:
    """Words, and a build that fails."""
    done = base.run(["/bin/sh", "-ec", f"{variables} ./download.py"], build=True)
    assert (done.returncode, done.stderr[: len(words)]) == (1, words)
    assert list(base.image.path("/app/models").iterdir()) == []


@pytest.mark.loopback
@pytest.mark.usefixtures("hub")
def test_a_model_that_is_not_there(base: Container) -> None:
    """The build fails with the words of `localhf pull`, and leaves nothing behind."""
    command = "MODEL_NAME=org/nowhere TRUST_REMOTE_CODE=false ./download.py --pack"
    done = base.run(["/bin/sh", "-ec", command], build=True)
    assert (done.returncode, "error: there is no org/nowhere on " in done.stderr) == (1, True)
    assert list(base.image.path("/app/models").iterdir()) == []
