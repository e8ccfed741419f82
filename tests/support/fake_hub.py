"""A hub on this machine: a real HTTP server that speaks as much of the protocol as a pull uses, and fails to order.

Weights are served as the hub serves files in LFS: the address in the repository redirects to another host (here
`localhost` beside `127.0.0.1`), where no token may arrive.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from huggingface_hub import constants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

TINY = "sentence-transformers/tiny"

_LFS_SUFFIXES = (".safetensors", ".bin")
_CHUNK_BYTES = 4096


@dataclass
class Repository:
    """A repository: its files at each commit, and the branches and tags that name them."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)
    gated: bool = False

    def commit(self, files: dict[str, bytes], *, revision: str = "main") -> str:
        """Adds a commit and lets `revision` name it; the commit is made of the files, as in git."""
        digest = hashlib.sha1(usedforsecurity=False)
        for path, content in sorted(files.items()):
            digest.update(path.encode() + b"\0" + content)
        self.commits[digest.hexdigest()] = files
        self.references[revision] = digest.hexdigest()
        return digest.hexdigest()

    def resolve(self, revision: str) -> str | None:
        """The commit that a revision names."""
        return revision if revision in self.commits else self.references.get(revision)


@dataclass
class FakeHub:
    """The server, its repositories, its faults, and what it was asked.

    Attributes:
        cut: How many more answers for a path break off in the middle; a large number means always.
        cut_at_once: As `cut`, but before the first byte.
        corrupt: How many more answers for a path have the right size and wrong bytes.
        seconds_per_chunk: How slowly a path is sent.
        status: Answers every request with this status instead.
        error_code: The hub's own name for the error that `status` stands for.
        token: If set, the only token that opens gated repositories.
        requests: Each request as `METHOD path`, in order.
        tokens: The tokens that arrived, by host.
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    cut_at_once: dict[str, int] = field(default_factory=dict)
    corrupt: dict[str, int] = field(default_factory=dict)
    seconds_per_chunk: dict[str, float] = field(default_factory=dict)
    status: HTTPStatus | None = None
    error_code: str = ""
    token: str | None = None
    requests: list[str] = field(default_factory=list)
    tokens: dict[str, set[str]] = field(default_factory=dict)
    port: int = 0

    @property
    def endpoint(self) -> str:
        """The address to put into HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def upload(self, name: str, folder: Path, *, revision: str = "main") -> str:
        """Adds the files of a folder as a commit of a repository."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return self.repositories.setdefault(name, Repository()).commit(files, revision=revision)

    def fetched(self) -> list[str]:
        """The paths of the files whose content was asked for, in order."""
        marks = ("/resolve/", "/cdn/")
        paths = [request.removeprefix("GET ") for request in self.requests if request.startswith("GET ")]
        in_repository = [path.partition("/resolve/")[2].partition("/")[2] for path in paths if marks[0] in path]
        in_storage = [path.partition("/cdn/")[2].partition("/")[2] for path in paths if marks[1] in path]
        return sorted(in_repository + in_storage)


@contextmanager
def running_hub(environment: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that answers for as long as the context is held, and that the environment names."""
    hub = FakeHub()

    class BoundHandler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), BoundHandler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    environment.setenv("HF_ENDPOINT", hub.endpoint)
    # The hub's library asks the address that it found at its import for a list of coding agents.
    environment.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    environment.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        """Keeps quiet; `FakeHub.requests` has everything."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.state, unquote(urlsplit(self.path).path)
        hub.requests.append(f"{self.command} {path}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        hub.tokens.setdefault((self.headers.get("Host") or "").partition(":")[0], set()).add(token)
        if hub.status is not None:
            self._refuse(hub.status, hub.error_code)
        elif path.startswith("/api/models/"):
            self._listing(path.removeprefix("/api/models/"))
        elif path.startswith("/cdn/"):
            sha256, _, name = path.removeprefix("/cdn/").partition("/")
            self._content(name, self._by_sha256(sha256), {})
        elif "/resolve/" in path:
            self._file(path, token)
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    def _listing(self, path: str) -> None:
        name, kind, revision = _split(path, ("revision", "tree"))
        repository = self.state.repositories.get(name)
        if repository is None:
            # The real hub does not tell a stranger whether there is such a repository.
            self._refuse(HTTPStatus.UNAUTHORIZED, "RepoNotFound", "Invalid username or password.")
            return
        commit = repository.resolve(revision or "main")
        if commit is None:
            self._refuse(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        files = sorted(repository.commits[commit].items())
        if kind == "tree":
            self._json([_tree_entry(file, content) for file, content in files])
        else:
            siblings = [_sibling(file, content) for file, content in files]
            self._json({"id": name, "modelId": name, "sha": commit, "siblings": siblings, "private": False, "tags": []})

    def _file(self, path: str, token: str) -> None:
        name, _, rest = path.removeprefix("/").partition("/resolve/")
        commit, _, file = rest.partition("/")
        repository = self.state.repositories[name]
        if repository.gated and token != self.state.token:
            self._refuse(HTTPStatus.FORBIDDEN, "GatedRepo", "Access to this model is restricted.")
            return
        content = repository.commits[commit].get(file)
        if content is None:
            self._refuse(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
            return
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_git_sha1(content)}"'}
        if not file.endswith(_LFS_SUFFIXES):
            self._content(file, content, headers)
            return
        sha256 = hashlib.sha256(content).hexdigest()
        headers |= {
            "X-Linked-Etag": f'"{sha256}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"http://localhost:{self.state.port}/cdn/{sha256}/{file}",
        }
        self._send(HTTPStatus.FOUND, b"", headers)

    def _content(self, file: str, content: bytes, headers: dict[str, str]) -> None:
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        body, status = content[start:], HTTPStatus.OK
        if start:
            status = HTTPStatus.PARTIAL_CONTENT
            headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        hub = self.state
        if self.command == "GET":
            if _due(hub.corrupt, file):
                body = bytes(byte ^ 1 for byte in body)
            if _due(hub.cut_at_once, file):
                self._send(status, b"", headers, declared_bytes=len(body))
                self.close_connection = True
                return
            if _due(hub.cut, file):
                self._send(status, body[: len(body) // 2], headers, declared_bytes=len(body))
                self.close_connection = True
                return
        self._send(status, body, headers, seconds_per_chunk=hub.seconds_per_chunk.get(file, 0))

    def _by_sha256(self, sha256: str) -> bytes:
        contents = (
            content
            for repository in self.state.repositories.values()
            for files in repository.commits.values()
            for content in files.values()
        )
        return next(content for content in contents if hashlib.sha256(content).hexdigest() == sha256)

    def _json(self, data: object) -> None:
        self._send(HTTPStatus.OK, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: HTTPStatus, code: str = "", message: str = "") -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message} if code else {})

    def _send(
        self,
        status: HTTPStatus,
        body: bytes,
        headers: dict[str, str],
        *,
        declared_bytes: int | None = None,
        seconds_per_chunk: float = 0,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if declared_bytes is None else declared_bytes))
        self.end_headers()
        if self.command == "HEAD":
            return
        for start in range(0, len(body), _CHUNK_BYTES):
            time.sleep(seconds_per_chunk)
            try:
                self.wfile.write(body[start : start + _CHUNK_BYTES])
            except OSError:  # the client was killed
                return


def _due(faults: dict[str, int], file: str) -> bool:
    left = faults.get(file, 0)
    faults[file] = left - 1
    return left > 0


def _split(path: str, kinds: tuple[str, ...]) -> tuple[str, str, str]:
    for kind in kinds:
        name, mark, revision = path.partition(f"/{kind}/")
        if mark:
            return name, kind, revision
    return path, "", ""


def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _sibling(file: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"rfilename": file, "size": len(content), "blobId": _git_sha1(content)}
    if file.endswith(_LFS_SUFFIXES):
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


def _tree_entry(file: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": file, "size": len(content), "oid": _git_sha1(content)}
    if file.endswith(_LFS_SUFFIXES):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry
