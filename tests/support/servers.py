"""Real servers: the application in uvicorn, at a free port of this machine, in a thread of this process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from langchain_localhf.server.app import create_app
from langchain_localhf.server.connection import Connection
from langchain_localhf.server.service import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from langchain_localhf.server.settings import ServerSettings

_PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.01


@dataclass(frozen=True)
class RunningServer:
    """A server that runs.

    Attributes:
        url: Its address, without a slash at the end.
        service: What it serves.
    """

    url: str
    service: Service


@contextlib.contextmanager
def running(settings: ServerSettings, *, until_ready: bool = True) -> Iterator[RunningServer]:
    """Runs a server until the context ends; then every accepted request is answered first.

    Args:
        settings: What it serves, and how.
        until_ready: Whether to wait until its models are loaded.

    Raises:
        LocalHFError: A model cannot be loaded.
    """
    service = Service(settings)
    # A failure to load is raised below, and not in the server's log, too.
    app = create_app(service, on_failure=lambda: None)
    server = uvicorn.Server(uvicorn.Config(app, http=Connection, lifespan="on", log_config=None, access_log=False))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        thread = threading.Thread(target=server.run, args=([listener],), name="server")
        thread.start()
        try:
            _wait(lambda: server.started, thread)
            if until_ready:
                _wait(lambda: service.is_ready or service.error is not None, thread)
                if service.error is not None:
                    raise service.error
            yield RunningServer(f"http://{host}:{port}", service)
        finally:
            server.should_exit = True
            thread.join(_PATIENCE_SECONDS)
            assert not thread.is_alive(), "the server does not end"


def _wait(is_reached: Callable[[], bool], thread: threading.Thread) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not is_reached():
        assert thread.is_alive(), "the server ended"
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(_POLL_SECONDS)
