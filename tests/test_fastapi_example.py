"""The service of `examples/fastapi-rag`: a real process without a network, with small models under the usual names."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from support import checkpoints, language_models
from support.containers import reason_against_namespaces

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

EXAMPLE = Path(__file__).parent.parent / "examples" / "fastapi-rag"
CHAT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
WINDOW = 4096
TEXTS = {
    "harbour.txt": "All ships anchor in the bay when the wind turns.",
    "bakery.txt": "Bread is baked before sunrise, and sold from seven.",
    "library/hours.txt": "The library closes at six in winter.",
}
_PATIENCE_SECONDS = 60
_READY = "Uvicorn running on"


@dataclass(frozen=True)
class Service:
    """A process of the service, which listens at a socket of this machine's file system."""

    process: subprocess.Popen[str]
    socket: Path
    client: httpx.Client

    def ask(self, question: str) -> list[tuple[str, Any]]:
        """The events of an answer."""
        reply = self.client.post("/ask", json={"question": question})
        assert reply.status_code == 200, reply.text
        assert reply.headers["content-type"].startswith("text/event-stream")
        return events(reply.text)

    def processor_seconds(self) -> float:
        """How long the process has computed."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def events(text: str) -> list[tuple[str, Any]]:
    """Server-sent events, as pairs of a name and what their data say."""
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]
    return [(block["event"], json.loads(block["data"])) for block in blocks]


def without_end(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights that never prefer a token that ends a text."""
    weights["lm_head.weight"][:4] = 0
    return weights


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with both models under their own names, and a collection of a few texts."""
    folder = tmp_path_factory.mktemp("rag")
    checkpoints.stored(folder / "models", "sentence-transformers/all-MiniLM-L6-v2", checkpoints.minilm_folder())
    for name, window in ((CHAT_MODEL, WINDOW), ("org/endless", 10**6)):
        model = language_models.copy("llama", folder / str(window))
        checkpoints.edit_json(model / "config.json", max_position_embeddings=window)
        checkpoints.edit_json(model / "tokenizer_config.json", model_max_length=window)
        checkpoints.edit_weights(model, without_end)
        checkpoints.hub_cache(folder / "hub", name, model)
    for path, text in TEXTS.items():
        (folder / "texts" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "texts" / path).write_text(text, encoding="utf-8")
    found = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "LOCALHF_HOME": str(folder / "models"),
        "HF_HUB_CACHE": str(folder / "hub"),
        "DATABASE": str(folder / "db"),
        "MAX_TOKENS": "20",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    said = indexed(found, folder / "texts")
    assert (said.returncode, said.stdout) == (0, f"3 passages of 3 texts are in {folder / 'db'}\n"), said.stderr
    return found


def alone(*command: str) -> list[str]:
    """A command of this Python in a namespace without a network, where such can be made."""
    namespace = [] if reason_against_namespaces() else ["unshare", "--map-root-user", "--net"]
    return [*namespace, sys.executable, *command]


def indexed(variables: dict[str, str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the script that fills the collection."""
    command = alone("index.py", str(folder))
    return subprocess.run(command, cwd=EXAMPLE, env=variables, capture_output=True, text=True, check=False)  # noqa: S603


@contextlib.contextmanager
def running(variables: dict[str, str]) -> Iterator[Service]:
    """Runs the service until the context ends; SIGTERM has to end it then."""
    with TemporaryDirectory() as folder, (Path(folder) / "log").open("w+", encoding="utf-8") as log:
        socket = Path(folder) / "socket"
        command = alone("-m", "uvicorn", "app:app", "--uds", str(socket), "--timeout-graceful-shutdown", "5")
        process = subprocess.Popen(command, cwd=EXAMPLE, env=variables, stderr=log, stdout=log, text=True)  # noqa: S603
        said = Path(log.name)
        try:
            deadline = time.monotonic() + _PATIENCE_SECONDS
            while _READY not in said.read_text(encoding="utf-8"):
                assert process.poll() is None, said.read_text(encoding="utf-8")
                assert time.monotonic() < deadline
                time.sleep(0.05)
            transport = httpx.HTTPTransport(uds=str(socket))
            with httpx.Client(transport=transport, base_url="http://service", timeout=_PATIENCE_SECONDS) as client:
                yield Service(process, socket, client)
        finally:
            process.terminate()
            process.wait(_PATIENCE_SECONDS)
        assert "Traceback" not in said.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def service(variables: dict[str, str]) -> Iterator[Service]:
    """The service with its usual settings, but for the length of answers."""
    with running(variables) as started:
        yield started


def test_an_answer(service: Service) -> None:
    """Sources first, the best before the others; then the answer in pieces; then how it ended."""
    said = service.ask("Where do the ships lie?")
    names = [name for name, _ in said]
    assert names == ["sources", *["token"] * (len(names) - 2), "done"]
    assert len(names) > 4
    sources, done = said[0][1], said[-1][1]
    assert sources[0]["source"] == "harbour.txt"
    assert {source["source"]: source["passage"] for source in sources} == TEXTS
    assert sources[0]["relevance"] > sources[1]["relevance"] >= sources[2]["relevance"]
    assert (done["finish_reason"], done["usage"]["output_tokens"]) == ("length", 20)


def test_the_prompt_has_the_passages(service: Service) -> None:
    """And the question: the model reads all of it, so its tokens are counted."""
    short, long = (service.ask(question)[-1][1]["usage"]["input_tokens"] for question in ("ships", "ships " * 40))
    assert short > sum(len(text) for text in TEXTS.values()) / 4
    assert long > short + 39


def test_questions_at_the_same_time(service: Service, variables: dict[str, str]) -> None:
    """Each gets the answer that it gets alone; the commands of the page work as they stand."""
    lines = (EXAMPLE / "README.md").read_text(encoding="utf-8").splitlines()
    health, ask = [shlex.split(line[2:]) for line in lines if line.startswith("$ curl ")]
    service_at = ["--unix-socket", str(service.socket), "--silent", "--fail"]
    answer = subprocess.run([*health, *service_at], capture_output=True, check=True)  # noqa: S603 - the page's
    assert json.loads(answer.stdout) == {
        "status": "ok",
        "embedding_model": "all-MiniLM-L6-v2",
        "chat_model": CHAT_MODEL,
    }
    clients = [subprocess.Popen([*ask, *service_at], stdout=subprocess.PIPE, text=True) for _ in range(3)]  # noqa: S603
    answers = [events(client.communicate(timeout=_PATIENCE_SECONDS)[0]) for client in clients]
    assert answers[0] == answers[1] == answers[2] == service.ask("What are the four freedoms?")


def test_errors(service: Service) -> None:
    """A question that is none has a status; one that is too long for the model ends the stream with words."""
    for wrong in ({"question": ""}, {"question": "a" * 2001}, {}):
        assert service.client.post("/ask", json=wrong).status_code == 422
    half = service.client.post("/ask", content=rb'{"question": "\ud800"}', headers={"Content-Type": "application/json"})
    assert (half.status_code, half.json()["detail"][0]["loc"]) == (422, ["body", "question"])
    (first, _), (last, error) = service.ask("海" * 2000)
    assert (first, last, error.keys()) == ("sources", "error", {"error", "hint"})
    assert f"the model can look at {WINDOW:,}" in error["error"]
    assert error["hint"]


def test_a_client_that_leaves(variables: dict[str, str]) -> None:
    """Its answer, which would go on for minutes, is not computed further; others get theirs."""
    settings = variables | {"CHAT_MODEL": "org/endless", "MAX_TOKENS": "100000"}
    with running(settings) as service:
        request = {"question": "Where do the ships lie?"}
        with service.client.stream("POST", "/ask", json=request) as reply:
            lines = reply.iter_lines()
            tokens = [line for line in (next(lines) for _ in range(100)) if line == "event: token"]
            assert len(tokens) > 20
        deadline, before = time.monotonic() + 20, service.processor_seconds()
        while (now := _after(0.5, service)) - before > 0.05:
            assert time.monotonic() < deadline, "it is still computing"
            before = now
        assert service.client.get("/health").json()["status"] == "ok"
        with service.client.stream("POST", "/ask", json=request) as reply:
            assert next(reply.iter_lines()) == "event: sources"


def _after(seconds: float, service: Service) -> float:
    time.sleep(seconds)
    return service.processor_seconds()


def test_a_collection_with_nothing_in_it(variables: dict[str, str], tmp_path: Path) -> None:
    """A status, and what helps."""
    with running(variables | {"DATABASE": str(tmp_path)}) as service:
        reply = service.client.post("/ask", json={"question": "Where do the ships lie?"})
        assert reply.status_code == 503
        assert reply.json() == {"error": f"there is nothing in {tmp_path}", "hint": "fill it: python index.py FOLDER"}


def test_a_model_that_is_not_here(variables: dict[str, str]) -> None:
    """The service ends before it listens, and says which command brings it."""
    command = alone("-m", "uvicorn", "app:app", "--uds", "/nowhere/socket")
    settings = variables | {"CHAT_MODEL": "org/none"}
    done = subprocess.run(command, cwd=EXAMPLE, env=settings, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode != 0
    assert "localhf pull org/none" in done.stderr


def test_what_is_not_indexed(variables: dict[str, str], tmp_path: Path) -> None:
    """Texts for another model than the one that filled the collection, and a folder without any: in words."""
    other = checkpoints.sentence_transformer(tmp_path / "other")
    refused = indexed(variables | {"EMBEDDING_MODEL": str(other)}, Path(variables["HOME"]) / "texts")
    assert (refused.returncode, "error: collection 'passages' was filled by" in refused.stderr) == (1, True)
    assert indexed(variables, tmp_path).stderr == f"error: there is no .txt in {tmp_path}\n"
