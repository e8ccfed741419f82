"""Alive, ready, and how much there is to do: answered at once, whatever the models are doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import Response
from starlette.routing import Route

from langchain_localhf.server.failures import failed

if TYPE_CHECKING:
    from starlette.requests import Request

    from langchain_localhf.server.service import Service


def routes(service: Service) -> list[Route]:
    """The paths that orchestrators, Weaviate and Prometheus ask."""

    async def live(_: Request) -> Response:
        return Response(status_code=204)

    def answer_if_ready(request: Request, status: int) -> Response:
        return Response(status_code=status) if service.is_ready else failed(request, service.unavailable())

    async def ready(request: Request) -> Response:
        return answer_if_ready(request, 204)

    async def health(request: Request) -> Response:
        return answer_if_ready(request, 200)

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return [
        Route("/.well-known/live", live),
        Route("/.well-known/ready", ready),
        Route("/health", health),
        Route("/ping", health),
        Route("/metrics", metrics),
    ]
