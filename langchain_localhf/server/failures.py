"""How a request fails: one table of errors and statuses, and the forms in which clients expect to read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException

from langchain_localhf.errors import InputError, LocalHFError, UnsupportedModelError
from langchain_localhf.server.replies import JSONReply

if TYPE_CHECKING:
    from starlette.requests import Request


class RequestError(LocalHFError):
    """A request that is not answered as it stands.

    Cause:
        One of the classes below says which.

    Fix:
        Change the request, or the server's options, as the `hint` says.
    """


class MalformedError(RequestError):
    """The body is no JSON, or not of the form that this route takes.

    Cause:
        The body is no JSON object, lacks a field, or has one of another type. The message names the field.

    Fix:
        Send what the route takes; the guide to serving has a request for each.
    """


class EmptyError(MalformedError):
    """There is nothing to embed or to score.

    Cause:
        The list of inputs is empty, as when a program filters all of its texts away.

    Fix:
        Send at least one.
    """


class UnknownModelError(RequestError):
    """The request names a model that is not served for this.

    Cause:
        The server runs no model for this route, or another one than `model` names.

    Fix:
        Name one that is served, or none. Or start the server with it: `--text`, `--clip`, `--rerank`.
    """


class TooLargeError(RequestError):
    """The request is over one of the server's limits, whatever it holds.

    Cause:
        The body has too many bytes or too many inputs, or a single text or query is too long.

    Fix:
        Send several smaller requests, and split long texts; a model reads the beginning of a text only.
        `--max-body-bytes`, `--max-inputs` and `--max-images` allow more.
    """


class UnauthorizedError(RequestError):
    """The server asks for a token, and this is none of its tokens.

    Cause:
        The request has no `Authorization` header, or another token.

    Fix:
        Send `Authorization: Bearer TOKEN` with a token of `--token` or `LOCALHF_SERVE_TOKENS`.
    """


class UnsupportedMediaTypeError(RequestError):
    """The body is said to be something else than JSON, or a web page of another site may have sent it.

    Cause:
        `Content-Type` names another type than JSON; or a browser sent the request, and it has no `Content-Type`.

    Fix:
        Send `Content-Type: application/json`.
    """


class TimedOutError(RequestError):
    """The body did not arrive in time.

    Cause:
        The connection is too slow, or the client stopped in the middle of its request.

    Fix:
        Send smaller requests.
    """


class OverloadedError(RequestError):
    """More waits already than the server promises to do.

    Cause:
        Clients send more than the model can do, or bodies that fill the memory set aside for them.

    Fix:
        Try again after the seconds of `Retry-After`, as the clients for LangChain and OpenAI do by themselves.
        `--max-waiting-tokens` lets more wait; a compiled model is faster.

    Attributes:
        retry_after_seconds: When a new try may succeed.
    """

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message, hint="try again later, as Retry-After says")
        self.retry_after_seconds = retry_after_seconds


class UnavailableError(RequestError):
    """The server does not answer yet, or no more: it loads its models, shuts down, or lost the thread of a model.

    Cause:
        The server was started some seconds ago, or told to end, or a model could not be loaded or broke.

    Fix:
        Wait until `/health` answers 200. If it does not, the server's log says why.
    """


@dataclass(frozen=True)
class Failure:
    """What one kind of error is in HTTP.

    Attributes:
        status: The status code.
        openai_type: The `type` that OpenAI's clients read.
        tei_type: The `error_type` that clients of text-embeddings-inference read.
        openai_code: The `code` that OpenAI's clients read, where there is one.
    """

    status: int
    openai_type: str
    tei_type: str
    openai_code: str | None = None


_INVALID = "invalid_request_error"
# The first class that fits. What is not listed is a mistake in this package.
_FAILURES: tuple[tuple[type[BaseException], Failure], ...] = (
    (EmptyError, Failure(400, _INVALID, "Empty")),
    (MalformedError, Failure(422, _INVALID, "Validation")),
    (InputError, Failure(422, _INVALID, "Validation")),
    (UnsupportedModelError, Failure(422, _INVALID, "Validation")),
    (UnknownModelError, Failure(404, _INVALID, "Validation", "model_not_found")),
    (TooLargeError, Failure(413, _INVALID, "Validation")),
    (UnsupportedMediaTypeError, Failure(415, _INVALID, "Validation")),
    (TimedOutError, Failure(408, _INVALID, "Validation")),
    (UnauthorizedError, Failure(401, "authentication_error", "Validation")),
    (OverloadedError, Failure(429, "rate_limit_error", "Overloaded")),
    (UnavailableError, Failure(503, "server_error", "Unhealthy")),
)
_BROKEN = Failure(500, "server_error", "Backend")
# OpenAI's clients take 422 for something that they do not know.
_OPENAI_STATUS = {422: 400}


def failure_of(error: BaseException) -> Failure:
    """What an error is in HTTP."""
    return next((failure for kind, failure in _FAILURES if isinstance(error, kind)), _BROKEN)


def failed(request: Request, error: Exception) -> JSONReply:
    """The reply to a request that ended in an error, in the form of the protocol that the request speaks.

    Under `/v1` that is OpenAI's. Everywhere else it is that of text-embeddings-inference, whose `error` is a text, as
    Weaviate wants it.
    """
    if isinstance(error, HTTPException):  # no such path, no such method
        failure = Failure(error.status_code, _INVALID, "Validation")
        return _reply(
            request, failure, f"{request.method} {request.url.path}: {error.detail}", dict(error.headers or {})
        )
    failure = failure_of(error)
    if isinstance(error, UnauthorizedError):
        return _reply(request, failure, "Unauthorized", {"WWW-Authenticate": "Bearer"})
    if isinstance(error, OverloadedError):
        return _reply(request, failure, str(error), {"Retry-After": str(max(1, math.ceil(error.retry_after_seconds)))})
    if isinstance(error, TimedOutError):  # what still comes is not the next request
        return _reply(request, failure, str(error), {"Connection": "close"})
    if failure is _BROKEN and not isinstance(error, LocalHFError):  # it may say what is nobody's business
        return _reply(request, failure, "this is a mistake in the server; its log says more")
    return _reply(request, failure, str(error))


def _reply(request: Request, failure: Failure, message: str, headers: dict[str, str] | None = None) -> JSONReply:
    if request.url.path.startswith("/v1/"):
        status = _OPENAI_STATUS.get(failure.status, failure.status)
        error = {"message": message, "type": failure.openai_type, "param": None, "code": failure.openai_code}
        return JSONReply({"error": error}, status, headers)
    return JSONReply({"error": message, "error_type": failure.tei_type}, failure.status, headers)
