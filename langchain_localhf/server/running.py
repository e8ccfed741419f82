"""Starts the server, and ends it so that no accepted request is lost."""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
from typing import TYPE_CHECKING

import uvicorn

from langchain_localhf.server.app import create_app
from langchain_localhf.server.connection import Connection, LoopErrors
from langchain_localhf.server.listening import listen
from langchain_localhf.server.service import Service

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType

    from langchain_localhf.server.models import Models
    from langchain_localhf.server.settings import ServerSettings

# Weaviate's clients keep an idle connection for 90 seconds, and do not try again when it is cut in their hands.
_KEEP_ALIVE_SECONDS = 120
# So long clients are told to connect elsewhere, before new connections are refused.
_GOODBYE_SECONDS = 0.5
# Then what clients sent in the last moment is read, for a second at most.
_LAST_LOOKS = 100
_PAUSE_SECONDS = 0.005
_KILLED_BY_SIGNAL = 128
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Server(uvicorn.Server):
    """A server that says goodbye first: for a moment it still answers, and asks every client to leave."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as uvicorn calls it
        """Begins to end; a second signal ends at once, as does one that comes before anything was promised."""
        if not self._service.is_ready:
            # Threads may be in the middle of loading or computing, and nothing else makes them stop.
            os._exit(_KILLED_BY_SIGNAL + sig)
        self._service.is_draining = True
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, _GOODBYE_SECONDS, self.leave)

    def leave(self) -> None:
        """Takes no new connections, answers what was accepted, and ends."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to listen."""
        asyncio.get_running_loop().set_exception_handler(LoopErrors())
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends as uvicorn does, but closes nothing that holds a request which is not read yet, and would be lost."""
        await self._until_read(lambda: [listener.fileno() for listener in sockets or []])
        for server in self.servers:
            server.close()
        await asyncio.sleep(_PAUSE_SECONDS)  # for the last that came in
        await self._until_read(self._idle_connections)
        await super().shutdown(sockets)

    async def _until_read(self, files: Callable[[], list[int]]) -> None:
        for _ in range(_LAST_LOOKS):
            if not _unread(files()):
                return
            await asyncio.sleep(_PAUSE_SECONDS)

    def _idle_connections(self) -> list[int]:
        cycles = ((one.transport, getattr(one, "cycle", None)) for one in self.server_state.connections)
        idle = (transport for transport, cycle in cycles if cycle is None or cycle.response_complete)
        return [transport.get_extra_info("socket").fileno() for transport in idle]


def _unread(files: list[int]) -> bool:
    """Whether a connection waits to be accepted, or something that a client sent waits to be read."""
    with selectors.DefaultSelector() as selector:
        for file in files:
            if file >= 0:  # it is open
                selector.register(file, selectors.EVENT_READ)
        return bool(selector.select(timeout=0))


def serve(
    settings: ServerSettings,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    on_ready: Callable[[socket.socket, Models], None] | None = None,
) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Args:
        settings: What to serve, and how.
        host: The address to listen at.
        port: The port; 0 for any free one.
        on_ready: Called with what the server listens at, and its models, once they are loaded.

    Raises:
        AddressError: It cannot listen there.
        LocalHFError: A model cannot be loaded.
    """
    logging.basicConfig(format=_LOG_FORMAT)
    service = Service(settings)
    server: _Server

    def give_up() -> None:
        server.leave()

    def ready() -> None:
        if on_ready is not None:
            on_ready(listener, service.models)

    config = uvicorn.Config(
        create_app(service, on_ready=ready, on_failure=give_up),
        http=Connection,
        access_log=False,
        log_config=None,
        log_level=logging.ERROR,  # clients that speak no HTTP are none of ours
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,
        ws="none",
    )
    server = _Server(config, service)
    with listen(host, port) as listener:
        server.run(sockets=[listener])
    if service.error is not None:
        raise service.error
