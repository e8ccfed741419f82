"""The protocol of text-embeddings-inference: `/embed`, the same at `/`, and `/info`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from starlette.routing import Route

from langchain_localhf.errors import InputError
from langchain_localhf.server.described import described, facts
from langchain_localhf.server.failures import UnknownModelError
from langchain_localhf.server.reading import Body, Texts
from langchain_localhf.server.replies import JSONReply
from langchain_localhf.server.vectors import check_dimensions, shaped, truncation_headers

if TYPE_CHECKING:
    from starlette.requests import Request

    from langchain_localhf.engines.base import InputKind
    from langchain_localhf.server.inference import Embedded, TextInference
    from langchain_localhf.server.service import Service

_KINDS: dict[str | None, InputKind] = {
    None: "document",
    "document": "document",
    "passage": "document",
    "query": "query",
}


class EmbedBody(Body):
    """What `/embed` takes.

    Attributes:
        inputs: One text or several.
        truncate: Whether a text may be cut that is longer than what the model reads; it may, unless this says no.
        truncation_direction: Where it is cut.
        prompt_name: What the texts are, for models with prompts.
        normalize: Whether vectors are scaled to length 1; those of many models have it in any case.
        dimensions: How many numbers of each vector are wanted; None for all.
    """

    inputs: str | Texts
    truncate: bool | None = None
    truncation_direction: Literal["left", "Left", "right", "Right"] | None = None
    prompt_name: str | None = None
    normalize: bool | None = True
    dimensions: int | None = None


def routes(service: Service) -> list[Route]:
    """The paths of this protocol."""

    async def embed(request: Request) -> JSONReply:
        started = time.perf_counter()
        async with service.bodies.reading(request, EmbedBody) as body:
            texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
            model = _model(service)
            service.bodies.check_count(texts, "inputs")
            check_dimensions(body.dimensions, model.loaded)
            embedded = await model.embed(texts, kind=_kind(body.prompt_name))
            _check_cut(embedded, body, limit=model.loaded.encoder.max_seq_length)
            normalize = body.normalize is not False
            vectors = shaped(embedded.vectors, model.loaded, dimensions=body.dimensions, normalize=normalize)
            return JSONReply(vectors, headers=_headers(texts, embedded, started))

    async def info(_: Request) -> JSONReply:
        return JSONReply(_info(service))

    return [
        Route("/embed", embed, methods=["POST"]),
        Route("/", embed, methods=["POST"]),
        Route("/info", info),
    ]


def _model(service: Service) -> TextInference:
    if service.models.texts is None:
        raise UnknownModelError("no model for texts is served", hint="start the server with localhf serve --text MODEL")
    return service.models.texts


def _kind(prompt_name: str | None) -> InputKind:
    if prompt_name not in _KINDS:
        known = ", ".join(repr(name) for name in _KINDS if name)
        raise InputError(f"there is no prompt called {prompt_name!r}", hint=f"use one of {known}, or leave it out")
    return _KINDS[prompt_name]


def _check_cut(embedded: Embedded, body: EmbedBody, *, limit: int | None) -> None:
    """Checks that texts were cut only where, and as, the client allows it.

    Raises:
        InputError: One was cut otherwise; the error names its index.
    """
    if not embedded.cut:
        return
    index = embedded.cut[0]
    what = f"inputs[{index}] has more than the {limit} tokens that the model reads"
    if body.truncate is False:
        raise InputError(what, index=index, hint="split it, or leave truncate out to embed its beginning")
    if body.truncation_direction in ("left", "Left"):
        msg = f"{what}, and a text can be cut at its end only"
        raise InputError(msg, index=index, hint='cut it yourself, or leave truncation_direction="left" out')


def _headers(texts: list[str], embedded: Embedded, started: float) -> dict[str, str]:
    milliseconds = round(1000 * (time.perf_counter() - started))
    return {
        "x-compute-characters": str(sum(map(len, texts))),
        "x-compute-tokens": str(sum(embedded.token_counts)),
        "x-compute-time": str(milliseconds),
        "x-total-time": str(milliseconds),
        **truncation_headers(embedded.cut),
    }


def _info(service: Service) -> dict[str, Any]:
    """What text-embeddings-inference says of its one model; null for what this server has not."""
    models, limits = service.models, service.settings.limits
    model = models.pairs if models.texts is None and models.pairs is not None else _model(service)
    known, checkpoint = facts(model.loaded), model.loaded.checkpoint
    about = described(models)
    kind: dict[str, Any] = {"embedding": {"pooling": "+".join(checkpoint.pooling) or None}}
    if model is models.pairs:
        kind = {"reranker": {key: checkpoint.config.get(key) for key in ("id2label", "label2id")}}
    return {
        "model_id": known["name"],
        "model_sha": known["revision"],
        "model_dtype": known["dtype"],
        "served_model_name": known["name"],
        "model_type": kind,
        "max_concurrent_requests": None,
        "max_input_length": known["max_tokens"],
        "max_batch_tokens": limits.batch_tokens,
        "max_batch_requests": None,
        "max_client_batch_size": limits.inputs,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": about["version"],
        "sha": None,
        "docker_label": None,
        "localhf": about,
    }
