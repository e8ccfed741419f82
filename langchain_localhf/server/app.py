"""The server as one ASGI application: every protocol's routes, and what is around them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from langchain_localhf.server import health, openai, page, reranking, tei, weaviate
from langchain_localhf.server.failures import failed
from langchain_localhf.server.middleware import Abandonment, AccessControl, ErrorReplies, Measured

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from langchain_localhf.server.service import Service


def create_app(
    service: Service, *, on_ready: Callable[[], None] | None = None, on_failure: Callable[[], None] | None = None
) -> Starlette:
    """The application. It answers at once that it is alive, and is ready when its models are loaded.

    Args:
        service: What it serves.
        on_ready: Called when the models are loaded.
        on_failure: Called when the models cannot be loaded; `service.error` says why.
    """
    routes = [
        route for protocol in (health, weaviate, openai, tei, reranking, page) for route in protocol.routes(service)
    ]

    async def failing(request: Request, error: Exception) -> Response:
        return failed(request, error)

    async def load() -> None:
        try:
            await service.load()
        except Exception:
            if on_failure is None:
                raise
            on_failure()
        else:
            if on_ready is not None:
                on_ready()

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(load())
        try:
            yield
        finally:
            loading.cancel()
            await service.close()

    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: failing},
        middleware=[
            Middleware(
                Measured,
                metrics=service.metrics,
                paths=frozenset(route.path for route in routes),
                is_draining=lambda: service.is_draining,
            ),
            Middleware(ErrorReplies),
            Middleware(AccessControl, tokens=service.settings.tokens),
            Middleware(Abandonment),
        ],
    )
