"""`localhf serve` as a process: what it says, how it is asked, and how it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from support import checkpoints, compiled, dual_encoders

from langchain_localhf import HuggingFaceEmbeddings, provisioning
from langchain_localhf.cli import main
from langchain_localhf.cli.serving import _completed, _limits, serve
from langchain_localhf.server.settings import MIB, Limits, ServerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.loopback

LOCALHF = [sys.executable, "-m", "langchain_localhf.cli"]
# As where only the extras `serve` and `openvino` are installed.
SLIM = """
import sys
for name in ("torch", "transformers", "sentence_transformers", "nncf", "chromadb", "langchain_chroma"):
    sys.modules[name] = None
from langchain_localhf.cli import main
main()
"""
# As root without any right, in a view of the file system in which nothing can be written, not even below /tmp.
READ_ONLY = """
mount --make-rprivate /
cut -d " " -f 2 /proc/mounts | while read -r folder; do mount -o remount,bind,ro "$folder" 2>/dev/null; done
touch "$WRITABLE" 2>/dev/null && exit 9
exec setpriv --bounding-set=-all --inh-caps=-all "$@"
"""


@pytest.fixture(scope="module")
def packed() -> Path:
    """The folder of a tiny model that was compiled, without its weights."""
    home = compiled.tiny().folder.parent.parent
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LOCALHF_HOME", str(home))
        return provisioning.pack("org/tiny", Path(mkdtemp())).folder


@contextlib.contextmanager
def served(
    *arguments: object, program: tuple[str, ...] = tuple(LOCALHF), **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """A server as a process of its own: the process, its address, and what it said when it was ready."""
    command = [*program, "serve", "--port", "0", *map(str, arguments)]
    process = subprocess.Popen(  # noqa: S603 - our own
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert line.startswith("serving at http://"), line + process.stderr.read()
        yield process, line.split()[2].removesuffix(":"), line
    finally:
        process.kill()
        process.communicate()


def ask(url: str, path: str = "/vectors", *, token: str | None = None, text: str = "the river") -> httpx.Response:
    """What the server answers, to the request of the documented check."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.post(f"{url}{path}", json={"text": text}, headers=headers, trust_env=False)


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_says_one_line_and_ends_when_told(packed: Path, ending: signal.Signals) -> None:
    """The address and the models once they are loaded, then nothing; SIGTERM and Ctrl-C end it as planned."""
    with served("--text", packed) as (process, url, line):
        assert line == f"serving at {url}: text org/tiny (openvino)\n"
        assert httpx.get(f"{url}/.well-known/ready", trust_env=False).status_code == 204
        assert ask(url).status_code == 200
        process.send_signal(ending)
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output, errors) == (0, "", "")


def test_runs_without_torch(packed: Path) -> None:
    """A packed model needs the extras `serve` and `openvino`, and gives the vectors of the class for programs."""
    with served("--text", packed, program=(sys.executable, "-c", SLIM)) as (_, url, _):
        vector = ask(url).json()["vector"]
    expected = HuggingFaceEmbeddings(model_name=str(packed)).embed_documents(["the river"])[0]
    np.testing.assert_allclose(vector, np.array(expected) / np.linalg.norm(expected), atol=1e-6)


def test_runs_where_nothing_can_be_written(packed: Path, tmp_path: Path) -> None:
    """Not the model's folder, no home, no temporary folder: a compiled model needs none of them."""
    program = ("unshare", "--mount", "bash", "-c", READ_ONLY, "read-only")
    environment = {"WRITABLE": str(tmp_path / "written"), "HOME": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1"}
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    tried = subprocess.run([*program, "true"], env=os.environ | environment, capture_output=True, check=False)  # noqa: S603
    if tried.returncode == 1:
        pytest.skip("this user cannot make a file system read-only, not even for itself")
    assert tried.returncode == 0
    with served("--text", packed, program=(*program, *LOCALHF), **environment) as (process, url, _):
        assert ask(url).status_code == 200
        rights = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        assert "CapEff:\t0000000000000000" in rights


def test_finds_the_models_of_a_folder(packed: Path, tmp_path: Path) -> None:
    """`--models-dir` takes the layout of Weaviate's containers; what an option names goes before."""
    (tmp_path / "model").symlink_to(packed)
    with served("--models-dir", tmp_path) as (_, _, line):
        assert line.endswith(": text org/tiny (openvino)\n")


def test_every_model_is_named(tmp_path: Path) -> None:
    """In the order of the options, each once, with what runs it."""
    folder, text, reranker = (tmp_path / name for name in ("clip", "text", "reranker"))
    dual_encoders.clip(folder)
    dual_encoders.text_tower(text)
    checkpoints.cross_encoder(reranker)
    with served("--clip", folder, "--clip-text", text, "--rerank", reranker) as (_, url, line):
        assert line == f"serving at {url}: clip clip (torch), clip-text text (torch), rerank reranker (torch)\n"


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["--token", "one", "--token", "two"], {"LOCALHF_SERVE_TOKENS": "three"}),
        ([], {"LOCALHF_SERVE_TOKENS": "one, two", "AUTHENTICATION_ALLOWED_TOKENS": "three"}),
        ([], {"LOCALHF_SERVE_TOKENS": "", "AUTHENTICATION_ALLOWED_TOKENS": "one,two"}),
    ],
)
def test_tokens(packed: Path, arguments: list[str], environment: dict[str, str]) -> None:
    """From the command line, else from the environment, where the name of Weaviate's container works, too."""
    with served("--text", packed, *arguments, **environment) as (_, url, _):
        statuses = [ask(url, token=token).status_code for token in (None, "three", "one", "two")]
        assert statuses == [401, 401, 200, 200]


def test_open_to_others(packed: Path) -> None:
    """Who listens at more than this machine, and asks for no token, is told so."""
    with served("--text", packed, "--host", "0.0.0.0") as (process, _, _):  # noqa: S104 - what the note is about
        assert process.stderr is not None
        assert process.stderr.readline().startswith("note: there is no token, so whoever reaches this address may ask")


def test_limits_reach_the_server(packed: Path) -> None:
    """A request over a limit of the command line is refused."""
    with served("--text", packed, "--max-body-bytes", 100) as (_, url, _):
        assert ask(url).status_code == 200
        assert ask(url, text="x" * 200).status_code == 413


def localhf(*arguments: object, **environment: str) -> tuple[int, str]:
    """The exit code and what it says; the command line runs in this process."""
    result = CliRunner().invoke(main, ["serve", *map(str, arguments)], prog_name="localhf", env=environment)
    if not isinstance(result.exception, SystemExit | None):
        raise result.exception
    assert result.stdout == ""
    return result.exit_code, result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a model: --text, --clip, --rerank, or --models-dir"),
        (["--clip-text", "tiny"], "--clip-text is for the texts that are compared with images"),
        (["--text", "tiny", "--token", ""], "a token is empty, or has other characters"),
        (["--text", "tiny", "--token", "two words"], "a token is empty, or has other characters"),
        (["--text", "tiny", "--port", "99999"], "Invalid value for '--port'"),
        (["--text", "tiny", "--max-inputs", "0"], "Invalid value for '--max-inputs'"),
        (["--models-dir", "/no/where"], "Invalid value for '--models-dir'"),
    ],
)
def test_misuse(arguments: list[str], words: str) -> None:
    """What cannot be meant is an error of usage."""
    code, said = localhf(*arguments)
    assert (code, words in said) == (2, True)
    assert said.endswith("\n\nhint: localhf serve --help\n")


def test_models_that_cannot_be_served(tiny: Path, tmp_path: Path) -> None:
    """The usual error and exit code, at once."""
    (tmp_path / "empty").mkdir()
    cases = {
        ("--text", "org/nowhere"): "error: org/nowhere is not on this machine",
        ("--rerank", tiny): f"error: {tiny} is no cross-encoder",
        ("--clip", tiny): "error: tiny reads texts only, and no images",
        ("--text", checkpoints.classifier(tmp_path / "scores")): f"error: {tmp_path / 'scores'} is a cross-encoder",
        ("--models-dir", tmp_path / "empty"): f"error: there is no model in {tmp_path / 'empty'}",
    }
    for arguments, words in cases.items():
        code, said = localhf("--port", "0", *arguments)
        assert (code, said[: len(words)]) == (1, words)
        assert "\n\nhint: " in said


def test_a_taken_port() -> None:
    """Words, and no traceback; so is a host that this machine does not have."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, said = localhf("--text", "tiny", "--port", port)
    words = f"error: cannot listen at 127.0.0.1, port {port}: Address already in use"
    assert (code, said) == (1, f"{words}\n\nhint: use another --port, or end the program that has this one\n")
    command = [*LOCALHF, "serve", "--text", "tiny", "--host", "198.51.100.7"]  # an address of nobody
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert (done.returncode, "\n\nhint: use a --host that this machine has" in done.stderr) == (1, True)


@pytest.mark.parametrize("missing", ["uvicorn", "starlette", "orjson", "prometheus_client"])
def test_missing_extra(missing: str) -> None:
    """The command that installs it."""
    code = f"import sys; sys.modules[{missing!r}] = None; from langchain_localhf.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", "--text", "tiny"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f'error: serving needs {missing}, which is not installed\n\nhint: pip install "langchain-localhf[serve]"\n'
    )


def test_what_is_named_goes_before_what_is_found() -> None:
    """A text tower that was found is not put beside another model for images."""
    found = {"clip": "/models/clip", "clip_text": "/models/text", "text": "/models/model"}
    assert _completed({}, found) == found
    assert _completed({"text": "mine"}, found) == found | {"text": "mine"}
    assert _completed({"clip": "mine"}, found) == {"clip": "mine", "text": "/models/model"}


def test_limits_and_their_defaults_in_the_help() -> None:
    """The help states the server's own defaults; a body that may be large may also be held."""
    options = {"max_body_bytes": None, "max_inputs": None, "max_images": None, "max_waiting_tokens": None}
    assert _limits(Limits(), options) == Limits()
    large = _limits(Limits(), options | {"max_body_bytes": 1024 * MIB, "max_inputs": 3})
    assert (large.body_bytes, large.bodies_bytes, large.inputs) == (1024 * MIB, 1024 * MIB, 3)
    helps = {option.name: getattr(option, "help", None) or "" for option in serve.params}
    stated = {
        "max_body_bytes": f"{Limits().body_bytes // MIB} MiB",
        "max_inputs": str(Limits().inputs),
        "max_images": str(Limits().images),
        "max_waiting_tokens": str(Limits().queue_tokens),
        "drain_seconds": str(ServerSettings().drain_seconds),
    }
    assert {name: helps[name].partition("default: ")[2].rstrip("]") for name in stated} == stated
