"""One client's connection: how a request is read from it, and how long it may stay open for nothing."""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger(__name__)
# As a body has.
_HEAD_SECONDS = 30.0
_SECONDS_BETWEEN_COMPLAINTS = 60.0


class Connection(H11Protocol):
    """Reads requests with h11, and closes a connection whose client does not send any.

    Where httptools is installed, uvicorn would take that by itself: it loses the body of a request that offers an
    upgrade to HTTP/2, as clients in Java do, and it reads a head of any size.
    """

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Waits for the first request as long as for the next one; uvicorn would wait for ever."""
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def data_received(self, data: bytes) -> None:
        """Reads what comes; a head that has begun has to end in time, however often a part of it comes."""
        super().data_received(data)
        cycle = getattr(self, "cycle", None)
        if cycle is not None and not cycle.response_complete:
            self._forget_head()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(_HEAD_SECONDS, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        self._forget_head()
        super().connection_lost(exc)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class LoopErrors:
    """Logs what goes wrong in an event loop; when files run out, asyncio says so thousands of times a second."""

    def __init__(self) -> None:
        self._next_complaint = 0.0

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handles one error, as asyncio calls it."""
        if getattr(context.get("exception"), "errno", None) not in {errno.EMFILE, errno.ENFILE}:
            loop.default_exception_handler(context)
        elif loop.time() >= self._next_complaint:
            self._next_complaint = loop.time() + _SECONDS_BETWEEN_COMPLAINTS
            _log.error("no file is left for new connections; they wait. Allow more files: ulimit -n")
