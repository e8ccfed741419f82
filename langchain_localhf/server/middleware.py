"""Around every request: who may ask, how long it took, what went wrong, and whether anybody still waits."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request

from langchain_localhf.server.failures import RequestError, UnauthorizedError, failed, failure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from langchain_localhf.server.metrics import Metrics

_log = logging.getLogger(__name__)
# What orchestrators, scrapers and the first look of a person need; none of it comes from a model.
_OPEN_PATHS = {
    "/",
    "/page/style.css",
    "/page/script.js",
    "/health",
    "/ping",
    "/metrics",
    "/.well-known/live",
    "/.well-known/ready",
}
_OPEN_METHODS = {"GET", "HEAD"}
_SERVER_ERRORS = 500


class Measured:
    """Counts and times every request, and says goodbye where the server shuts down.

    Args:
        app: What lies behind.
        metrics: Where to count.
        paths: The paths that are counted by name; all others are counted together.
        is_draining: Whether the server shuts down, so that clients should connect anew, to another one.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str], is_draining: Callable[[], bool]) -> None:
        self._app, self._metrics, self._paths, self._is_draining = app, metrics, paths, is_draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._is_draining():
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            seconds = time.perf_counter() - started
            self._metrics.request_seconds.labels(path, str(status or "left")).observe(seconds)


class ErrorReplies:
    """Answers with what went wrong, in the form that the client reads; logs what is no fault of the client.

    Args:
        app: What lies behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        has_begun = False

        async def sending(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except ClientDisconnect:
            return  # nobody reads a reply
        except Exception as error:
            if has_begun or scope["type"] != "http":
                raise
            request = Request(scope)
            if failure_of(error).status >= _SERVER_ERRORS and not isinstance(error, RequestError):
                _log.exception("%s %s failed", request.method, request.url.path)
            await failed(request, error)(scope, receive, send)


class AccessControl:
    """Lets those in who send one of the tokens; the paths that tell nothing are open.

    Args:
        app: What lies behind.
        tokens: The tokens; everybody may ask if there are none.
    """

    def __init__(self, app: ASGIApp, tokens: Sequence[str]) -> None:
        self._app = app
        self._tokens = [token.encode() for token in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if self._tokens and not self._may_pass(scope):
            raise UnauthorizedError("Unauthorized", hint="send Authorization: Bearer TOKEN")
        await self._app(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        if scope["type"] == "lifespan":
            return True
        if scope["type"] == "http" and scope["method"] in _OPEN_METHODS and scope["path"] in _OPEN_PATHS:
            return True
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        # Headers are bytes. Every token is compared, each in constant time: how long it takes tells nothing.
        found = [secrets.compare_digest(given.strip().encode("latin-1"), token) for token in self._tokens]
        return scheme.lower() == "bearer" and any(found)


class Abandonment:
    """Stops working for a client that has hung up.

    Args:
        app: What lies behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        work = asyncio.current_task()
        if scope["type"] != "http" or scope["method"] != "POST" or work is None:
            await self._app(scope, receive, send)
            return
        listener: asyncio.Task[None] | None = None
        has_left = False

        async def hang_up() -> None:
            nonlocal has_left
            while (await receive())["type"] != "http.disconnect":
                pass
            has_left = True
            work.cancel()

        async def receiving() -> Message:
            nonlocal listener
            message = await receive()
            if listener is None and not message.get("more_body", False):
                listener = asyncio.create_task(hang_up())
            return message

        try:
            await self._app(scope, receiving, send)
        except asyncio.CancelledError:
            if not has_left or work.uncancel():
                raise
        finally:
            if listener is not None:
                listener.cancel()
