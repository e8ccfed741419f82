"""Connections to a server: kept open between requests, one set for threads and one for each event loop."""

from __future__ import annotations

import asyncio
import email.utils
import ipaddress
import os
import random
import threading
import time
import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

# Less than the server keeps them, so that a request is never sent into a connection that is just being cut.
_KEPT = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=60)
# The server did not work on these requests to their end, and may do so the next time.
_RETRIED_STATUSES = {408, 429, 502, 503, 504}
_RETRIED_ERRORS = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.ReadError,
    httpx.RemoteProtocolError,
    httpx.WriteError,
)
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.5, 8.0
# A server that asks for more than this is not waited for.
_LONGEST_RETRY_AFTER_SECONDS = 120.0


def checked_address(base_url: str) -> httpx.URL:
    """The address of a server, without a slash or `/v1` at the end.

    Raises:
        InputError: It is none.
    """
    hint = 'write it as "http://127.0.0.1:8080"'
    try:
        address = httpx.URL(base_url.rstrip("/").removesuffix("/v1"))
    except httpx.InvalidURL as error:
        raise InputError(f"base_url {base_url!r} is no address: {error}", hint=hint) from None
    if address.scheme not in {"http", "https"} or not address.host or address.query or address.fragment:
        raise InputError(f"base_url {base_url!r} is no address of a server", hint=hint)
    return address


def is_this_machine(address: httpx.URL) -> bool:
    """Whether an address leads to this machine itself."""
    host = address.host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def delay_before_retry(outcome: httpx.Response | httpx.RequestError, attempt: int) -> float | None:
    """How many seconds to wait before a request is sent again; None where that would not help.

    Args:
        outcome: How it ended.
        attempt: How often it was sent again already.
    """
    if isinstance(outcome, httpx.Response):
        if outcome.status_code not in _RETRIED_STATUSES:
            return None
        stated = _retry_after_seconds(outcome.headers.get("retry-after", ""))
        if stated is not None:
            return stated if stated <= _LONGEST_RETRY_AFTER_SECONDS else None
    elif not isinstance(outcome, _RETRIED_ERRORS):
        return None
    # Clients that were refused together should not come again together.
    delay: float = min(_FIRST_DELAY_SECONDS * 2**attempt, _LONGEST_DELAY_SECONDS)
    return delay * random.uniform(0.75, 1.25)  # noqa: S311 - no secret


def _retry_after_seconds(stated: str) -> float | None:
    """What a header says, in seconds or as a date; None if it says neither."""
    if stated.isdecimal():
        return float(stated)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(stated).timestamp() - time.time())
    except ValueError:
        return None


class Connections:
    """Clients that keep their connections; made when they are first used, and again after they were closed.

    Safe for many threads and event loops, and after a fork. Nobody has to close them: connections of threads end with
    this object, those of an event loop with the loop or with this object.

    Args:
        address: The server's address. No proxy stands between this machine and itself.
    """

    def __init__(self, address: httpx.URL) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._process_id = os.getpid()
        self._client: httpx.Client | None = None
        self._closing: weakref.finalize[..., Connections] | None = None
        self._of_loops: dict[asyncio.AbstractEventLoop, _LoopClient] = {}

    def __reduce__(self) -> tuple[type[Connections], tuple[httpx.URL]]:
        """A copy, also in another process, has the address only."""
        return type(self), (self._address,)

    def of_threads(self) -> httpx.Client:
        """The client for all threads of this process."""
        with self._lock:
            self._leave_after_fork()
            if self._client is None:
                self._client = httpx.Client(limits=_KEPT, trust_env=not is_this_machine(self._address))
                self._closing = weakref.finalize(self, self._client.close)
            return self._client

    def _leave_after_fork(self) -> None:
        """Lets go of connections that belong to the process that this one was forked from."""
        if self._process_id != os.getpid():
            self._process_id = os.getpid()
            if self._closing is not None:
                self._closing.detach()
            self._client = None

    async def of_loop(self) -> httpx.AsyncClient:
        """The client for the event loop that runs."""
        loop = asyncio.get_running_loop()
        kept = self._of_loops.get(loop)
        if kept is None or kept.client.is_closed:
            for ended in [other for other in self._of_loops if other is loop or other.is_closed()]:
                self._of_loops.pop(ended).finalizer.detach()
            client = httpx.AsyncClient(limits=_KEPT, trust_env=not is_this_machine(self._address))
            lifetime = _until_loop_ends(client)
            finalizer = weakref.finalize(self, _close_later, loop, lifetime)
            finalizer.atexit = False
            kept = self._of_loops[loop] = _LoopClient(client, lifetime, finalizer)
            await anext(lifetime)
        return kept.client

    def close(self) -> None:
        """Closes the connections of threads."""
        with self._lock:
            self._leave_after_fork()
            self._client = None
            if self._closing is not None:
                self._closing()  # once; never again

    async def aclose(self) -> None:
        """Closes the connections of the event loop that runs, and those of threads."""
        self.close()
        if kept := self._of_loops.pop(asyncio.get_running_loop(), None):
            kept.finalizer.detach()
            await kept.lifetime.aclose()


@dataclass(frozen=True)
class _LoopClient:
    """The client of an event loop, what ends with the loop, and what ends it before."""

    client: httpx.AsyncClient
    lifetime: AsyncGenerator[None]
    finalizer: weakref.finalize[..., Connections]


async def _until_loop_ends(client: httpx.AsyncClient) -> AsyncGenerator[None]:
    """Closes a client when it is closed itself: an event loop that ends does that to the generators it has started."""
    try:
        yield
    finally:
        await client.aclose()


def _close_later(loop: asyncio.AbstractEventLoop, lifetime: AsyncGenerator[None]) -> None:
    """Closes a client whose owner is gone, in its own loop."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.create_task, lifetime.aclose())
