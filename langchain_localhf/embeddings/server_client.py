"""Asks a `localhf serve`: sends a request again where that helps, and says what went wrong where it does not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx

from langchain_localhf.embeddings.connections import (
    Connections,
    checked_address,
    delay_before_retry,
    is_this_machine,
)
from langchain_localhf.errors import InputError, LocalHFError

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNAUTHORIZED = 401
OTHER_SERVER = "base_url should be the address of a `localhf serve` with --text"

_Outcome = httpx.Response | httpx.RequestError


class ServerError(LocalHFError):
    """A server cannot be reached, refuses a request, or answers something else than it should.

    Cause:
        No server runs at `base_url`, or it listens only to its own machine. It wants a token, is overloaded or shuts
        down. It needs more than `timeout_seconds` for a batch. Or `base_url` is the address of something else.

    Fix:
        Start the server with the command of the hint, or mend `base_url` and `api_key`. For slow answers give a larger
        `timeout_seconds`, or a smaller `batch_size`. What the server refuses is a request error of the server, with its
        hint.

    Attributes:
        status: The status code of its reply; None where there was none.
    """

    def __init__(self, message: str, *, status: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


@dataclass
class ServerClient:
    """Sends JSON to a server, and reads its JSON; in a thread or in an event loop. Equal with equal settings.

    Attributes:
        base_url: The server's address, with or without `/v1`.
        api_key: One of its tokens; None for none.
        timeout_seconds: How long to wait for a connection, and for a reply.
        max_retries: How often a request is sent again.
        connections: What it is sent through.

    Raises:
        InputError: The address or the key cannot be used.
    """

    base_url: str
    api_key: str | None = field(repr=False)
    timeout_seconds: float
    max_retries: int
    connections: Connections = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._address = checked_address(self.base_url)
        self.connections = Connections(self._address)
        key = self.api_key
        if key is not None and not (key.strip() and key.isascii() and key.isprintable()):
            msg = "api_key is empty, or has characters that a request cannot carry"
            raise InputError(msg, hint="leave it out, or give the token as the server knows it")

    def send(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Asks for `path`, and sends a body if there is one.

        Returns:
            The JSON object that the server answers.

        Raises:
            ServerError: It does not answer, also when asked again, or answers something else.
        """
        request = self._request(path, body)
        for attempt in count():
            outcome: _Outcome
            try:
                outcome = self.connections.of_threads().request(**request)
            except httpx.RequestError as error:
                outcome = error
            delay = self._delay(outcome, attempt)
            if delay is None:
                break
            time.sleep(delay)
        return self._answer(outcome)

    async def asend(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """As `send`, without a thread."""
        request = self._request(path, body)
        for attempt in count():
            outcome: _Outcome
            try:
                client = await self.connections.of_loop()
                outcome = await client.request(**request)
            except httpx.RequestError as error:
                outcome = error
            delay = self._delay(outcome, attempt)
            if delay is None:
                break
            await asyncio.sleep(delay)
        return self._answer(outcome)

    def _request(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        # A request that waits for a connection waits for others of this process, each of which has its time.
        timeout = httpx.Timeout(self.timeout_seconds, pool=None)
        headers = {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}
        sent = {"url": f"{str(self._address).rstrip('/')}{path}", "headers": headers, "timeout": timeout}
        return {**sent, "method": "GET"} if body is None else {**sent, "method": "POST", "json": body}

    def _delay(self, outcome: _Outcome, attempt: int) -> float | None:
        return delay_before_retry(outcome, attempt) if attempt < self.max_retries else None

    def _answer(self, outcome: _Outcome) -> dict[str, Any]:
        """The reply, if it is one."""
        if isinstance(outcome, httpx.RequestError):
            raise self._unreached(outcome) from outcome
        try:
            content = outcome.json()
        except ValueError:
            content = None
        if not outcome.is_success:
            raise self._refused(outcome, content)
        if not isinstance(content, dict):
            msg = f"{self.base_url} answers no JSON object"
            raise ServerError(msg, status=outcome.status_code, hint=OTHER_SERVER)
        return content

    def _unreached(self, error: httpx.RequestError) -> ServerError:
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            start = f"localhf serve --text MODEL --port {self._address.port or 80}"
            if not is_this_machine(self._address):
                start += f" --host 0.0.0.0, on {self._address.host}"
            return ServerError(f"no server answers at {self.base_url}: {error}", hint=f"start it: {start}")
        if isinstance(error, httpx.TimeoutException):
            msg = f"{self.base_url} did not answer within {self.timeout_seconds:g} seconds"
            return ServerError(msg, hint="give a larger timeout_seconds, or a smaller batch_size")
        msg = f"the connection to {self.base_url} broke: {str(error) or type(error).__name__}"
        return ServerError(msg, hint="the server's log may say more")

    def _refused(self, reply: httpx.Response, content: object) -> ServerError:
        if reply.status_code == _UNAUTHORIZED:
            what = "wants a token" if self.api_key is None else "does not know this token"
            hint = "give one of the server's tokens as api_key"
            return ServerError(f"{self.base_url} {what}", status=reply.status_code, hint=hint)
        error = content.get("error") if isinstance(content, dict) else None
        said = error.get("message") if isinstance(error, dict) else error
        message, _, hint = str(said or f"{reply.status_code} {reply.reason_phrase}").partition("\n\nhint: ")
        return ServerError(f"{self.base_url}: {message}", status=reply.status_code, hint=hint or OTHER_SERVER)
