"""Clients of a server: each has one connection, sends its next text when it has the vector of the one before.

A process of its own, so that it shares no interpreter with the server, and no more than Python's own library, so that
it costs little: what a client takes is missing where both run on the same machine.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from itertools import count
from typing import Any

# Health is asked so often, on a connection of its own.
_PAUSE_SECONDS = 0.02
_OK = 200


class Connection:
    """A connection that is kept alive; opened anew where the server ended it after a reply."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """Sends a request; answers the status, the headers and the body of the reply.

        Raises:
            ConnectionError: There is no connection, or it broke in the middle of a reply.
        """
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
            content = await reader.readexactly(int(headers.get("content-length", 0)))
        except asyncio.IncompleteReadError as error:
            self.close()
            msg = f"the reply ended after {error.partial!r}"
            raise ConnectionResetError(msg) from error
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), headers, content

    def close(self) -> None:
        """Closes the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


class Load:
    """Clients that ask at the same time, for so long.

    Args:
        settings: `host`, `port`, `path`, `clients`, `seconds`, `texts` (a file with a list, every text is sent once),
            and `first`, the place in it where to begin.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        with open(settings["texts"], encoding="utf-8") as file:  # noqa: PTH123 - the fewest imports
            self._texts = json.load(file)
        self._settings = settings
        self._next = count(settings["first"])
        self._statuses: Counter[int] = Counter()
        self._errors: Counter[str] = Counter()
        self._seconds: list[float] = []
        self._refused_seconds: list[float] = []
        self._health_seconds: list[float] = []
        self._retry_after: Counter[str] = Counter()

    async def run(self) -> dict[str, Any]:
        """What the clients saw."""
        started, processor = time.perf_counter(), time.process_time()
        self._end = started + self._settings["seconds"]
        await asyncio.gather(self._look_after_health(), *(self._client() for _ in range(self._settings["clients"])))
        return {
            "seconds": time.perf_counter() - started,
            "client_processor_seconds": time.process_time() - processor,
            "next": next(self._next),
            "statuses": self._statuses,
            "errors": self._errors,
            "retry_after": self._retry_after,
            "reply_seconds": sorted(self._seconds),
            "refused_seconds": sorted(self._refused_seconds),
            "health_seconds": sorted(self._health_seconds),
        }

    async def _client(self) -> None:
        connection = Connection(self._settings["host"], self._settings["port"])
        while time.perf_counter() < self._end:
            text = self._texts[next(self._next) % len(self._texts)]
            body = json.dumps({"input": text, "encoding_format": "base64"}).encode()
            started = time.perf_counter()
            try:
                status, headers, _ = await connection.ask("POST", "/v1/embeddings", body)
            except ConnectionError as error:
                self._errors[repr(error)] += 1
                continue
            self._statuses[status] += 1
            (self._seconds if status == _OK else self._refused_seconds).append(time.perf_counter() - started)
            if status != _OK:
                self._retry_after[headers.get("retry-after", "")] += 1
                await asyncio.sleep(_PAUSE_SECONDS)
        connection.close()

    async def _look_after_health(self) -> None:
        connection = Connection(self._settings["host"], self._settings["port"])
        for path in self._paths():
            started = time.perf_counter()
            await connection.ask("GET", path)
            self._health_seconds.append(time.perf_counter() - started)
            await asyncio.sleep(_PAUSE_SECONDS)
        connection.close()

    def _paths(self) -> Any:  # noqa: ANN401 - an iterator
        while time.perf_counter() < self._end:
            yield from ("/.well-known/live", "/.well-known/ready", "/health")


if __name__ == "__main__":
    print(json.dumps(asyncio.run(Load(json.loads(sys.argv[1])).run())))
