"""A request's body: bounded, in time, JSON, and of the form that its route takes; or an error before any work."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError

from langchain_localhf.server.failures import (
    EmptyError,
    MalformedError,
    OverloadedError,
    RequestError,
    TimedOutError,
    TooLargeError,
    UnsupportedMediaTypeError,
)
from langchain_localhf.server.settings import MIB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pydantic_core import CoreSchema
    from starlette.requests import Request

    from langchain_localhf.server.settings import Limits

_BodyT = TypeVar("_BodyT", bound="Body")
# Many clients read no reply before they have sent everything; so much is thrown away before the reply comes anyway.
_DRAINED_BYTES = 256 * MIB
_RETRY_AFTER_SECONDS = 1.0
_GUIDE = "see docs/guides/serving.md for what this route takes"
# A value such as `{}` takes thirty times more memory than bytes, and pydantic a kilobyte for each that does not fit.
_MAX_VALUES = 1_000_000


class _FailFast:
    """Ends with the first entry that does not fit; pydantic's own is not hashable, so it stands in no union."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return {**handler(source), "fail_fast": True}


Texts = Annotated[list[str], _FailFast()]
"""A list of texts; of many things that are none, only the first is looked at."""


class Body(BaseModel):
    """A request's body. What a protocol has and this server does not need is ignored; Weaviate sends such fields."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class BodyReader:
    """Reads bodies, and knows how much lies in memory.

    Args:
        limits: How large a body may be, and all of them together.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._held_bytes = 0

    @contextlib.asynccontextmanager
    async def reading(self, request: Request, form: type[_BodyT]) -> AsyncIterator[_BodyT]:
        """The body of a request; its memory counts until the context ends.

        Raises:
            UnsupportedMediaTypeError: It is said to be something else than JSON.
            TooLargeError: It is too large.
            TimedOutError: It does not arrive in time.
            OverloadedError: Too many others are being worked on.
            MalformedError: It is no JSON, or not of this form.
            ClientDisconnect: The client is gone.
        """
        body = bytearray()
        try:
            await self._read(request, body)
            yield _parsed(body, form)
        finally:
            self._held_bytes -= len(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        """Reads a body. The rest of one that is refused is thrown away, so that its client comes to read the reply."""
        refusal = self._refusal_of_head(request)
        if refusal is not None and request.headers.get("expect", "").lower() == "100-continue":
            raise refusal  # it has sent nothing yet, and need not
        thrown_away = 0
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                async for chunk in request.stream():
                    if refusal is None:
                        refusal = self._take(chunk, body)
                    thrown_away += len(chunk) if refusal else 0
                    if thrown_away > _DRAINED_BYTES:
                        break
        except TimeoutError:
            msg = f"the body did not arrive within {self.limits.body_seconds:g} seconds"
            refusal = refusal or TimedOutError(msg, hint="send it faster, or in smaller requests")
        if refusal is not None:
            raise refusal

    def _refusal_of_head(self, request: Request) -> RequestError | None:
        declared = request.headers.get("content-length", "0")
        if len(declared) > len(str(self.limits.body_bytes)) or int(declared) > self.limits.body_bytes:
            return self._too_large()
        return _refusal_of_content_type(request)

    def _take(self, chunk: bytes, body: bytearray) -> RequestError | None:
        """Keeps the next part of a body, or says why not."""
        if len(body) + len(chunk) > self.limits.body_bytes:
            return self._too_large()
        if self._held_bytes + len(chunk) > self.limits.bodies_bytes:
            msg = "the requests that are being worked on hold too much memory already"
            return OverloadedError(msg, retry_after_seconds=_RETRY_AFTER_SECONDS)
        body += chunk
        self._held_bytes += len(chunk)
        return None

    def _too_large(self) -> TooLargeError:
        msg = f"the body is larger than {self.limits.body_bytes} bytes"
        return TooLargeError(msg, hint="send several smaller requests, or start the server with --max-body-bytes")

    def check_count(self, inputs: Sequence[object], name: str, *, limit: int | None = None) -> None:
        """Checks how many inputs a request has.

        Raises:
            EmptyError: There is none.
            TooLargeError: There are too many.
        """
        limit = self.limits.inputs if limit is None else limit
        if not inputs:
            raise EmptyError(f"{name} is empty", hint="send at least one")
        if len(inputs) > limit:
            msg = f"{name} has {len(inputs)} entries; at most {limit} are taken"
            raise TooLargeError(msg, hint="send several smaller requests")


def _refusal_of_content_type(request: Request) -> RequestError | None:
    """JSON by its name; or no name at all, as Weaviate sends it, unless a web page of another site may be behind it."""
    stated = request.headers.get("content-type")
    if stated is None:
        if "origin" not in request.headers:
            return None
        msg = "a request of a web page has to say that it sends JSON"
        return UnsupportedMediaTypeError(msg, hint="send Content-Type: application/json")
    media_type = stated.partition(";")[0].strip().lower()
    if media_type == "application/json" or media_type.endswith("+json"):
        return None
    msg = f"the body is said to be {media_type!r}, not JSON"
    return UnsupportedMediaTypeError(msg, hint="send Content-Type: application/json")


def _parsed(data: bytearray, form: type[_BodyT]) -> _BodyT:
    # Commas stand in texts, too, but hardly so many; a text has far more other characters.
    if data.count(b",") > max(_MAX_VALUES, len(data) // 16):
        raise _too_many_values()
    try:
        content = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise MalformedError(f"the body is no JSON: {error}", hint="send a JSON object") from None
    if not isinstance(content, dict):
        raise MalformedError("the body is no JSON object", hint=_GUIDE)
    _check_values(content)
    try:
        return form.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MalformedError(f"{place}: {first['msg']}", hint=_GUIDE) from None


def _check_values(content: dict[str, Any]) -> None:
    """Checks how many values a body has, inside of each other."""
    found: list[dict[str, Any] | list[Any]] = [content]
    values = 0
    while found:
        outer = found.pop()
        values += len(outer)
        if values > _MAX_VALUES:
            raise _too_many_values()
        inner = outer.values() if isinstance(outer, dict) else outer
        found.extend(value for value in inner if isinstance(value, (dict, list)))


def _too_many_values() -> TooLargeError:
    return TooLargeError(f"the body holds more than {_MAX_VALUES} values", hint="send several smaller requests")
