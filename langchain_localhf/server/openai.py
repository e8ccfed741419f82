"""OpenAI's protocol: `/v1/embeddings` and `/v1/models`; the same without `/v1`, as clients of infinity and TEI ask.

`/v1/models` says more than OpenAI's does: what each model is for, its dimension, and the fingerprint of its vectors.
"""

from __future__ import annotations

import base64
import time
from typing import TYPE_CHECKING, Any, Literal

from starlette.routing import Route

from langchain_localhf.errors import InputError
from langchain_localhf.server.described import facts
from langchain_localhf.server.failures import MalformedError, UnknownModelError
from langchain_localhf.server.reading import Body
from langchain_localhf.server.replies import JSONReply
from langchain_localhf.server.vectors import check_dimensions, shaped, truncation_headers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.requests import Request

    from langchain_localhf.loaded import LoadedEncoder, LoadedScorer
    from langchain_localhf.server.inference import Embedded, TextInference
    from langchain_localhf.server.models import Models
    from langchain_localhf.server.service import Service
    from langchain_localhf.server.settings import ServerSettings


class EmbeddingsBody(Body):
    """What a client asks for; `user` and whatever else OpenAI takes is ignored.

    Attributes:
        input: A text or a list of texts; typed by hand, for errors that say more.
        model: One of the model's names; without one, the model for texts.
        encoding_format: How vectors are written; `base64` stands for little-endian float32.
        dimensions: How many numbers of each vector are wanted, in a vector of length 1; None for all, as they are.
        input_type: What the texts are; it matters to models with prompts only. OpenAI has no such field.
    """

    input: Any
    model: str | None = None
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    input_type: Literal["query", "document", "passage"] | None = None


def routes(service: Service) -> list[Route]:
    """The paths of this protocol."""
    started = int(time.time())

    async def embeddings(request: Request) -> JSONReply:
        async with service.bodies.reading(request, EmbeddingsBody) as body:
            texts = _texts(body.input)
            service.bodies.check_count(texts, "input")
            model = _embedding_model(body.model, service)
            check_dimensions(body.dimensions, model.loaded)
            embedded = await model.embed(texts, kind="query" if body.input_type == "query" else "document")
            return _reply(body, model.loaded, embedded)

    async def models(_: Request) -> JSONReply:
        return JSONReply({"object": "list", "data": _listed(service.models, started)})

    async def model(request: Request) -> JSONReply:
        wanted, listed = request.path_params["model"], _listed(service.models, started)
        for entry in listed:
            if wanted.casefold() in _names(entry["id"], entry["roles"], service.settings):
                return JSONReply(entry)
        raise _unknown(wanted, [entry["id"] for entry in listed])

    return [
        Route("/v1/embeddings", embeddings, methods=["POST"]),
        Route("/embeddings", embeddings, methods=["POST"]),
        Route("/v1/models", models),
        Route("/models", models),
        Route("/v1/models/{model:path}", model),
    ]


def _texts(given: object) -> list[str]:
    """The texts of a request.

    Raises:
        InputError: They are token ids, which mean nothing to this server's models.
        MalformedError: They are something else.
    """
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list):
        raise MalformedError("input is neither a text nor a list of texts", hint="send a string, or a list of them")
    for index, item in enumerate(given):
        if isinstance(item, (int, list)) and not isinstance(item, bool):
            msg = "input holds token ids, which come from the tokenizer of another model; this server takes texts"
            raise InputError(msg, index=index, hint="OpenAIEmbeddings(check_embedding_ctx_length=False) sends texts")
        if not isinstance(item, str):
            raise MalformedError(f"input[{index}] is no text", hint="leave it out, or turn it into a string")
    return given


def _embedding_model(wanted: str | None, service: Service) -> TextInference:
    """The model that a request names.

    Raises:
        UnknownModelError: No such model is served, or none that embeds texts.
    """
    served = {"text": service.models.texts, "clip_text": service.models.clip_texts}
    lanes = {role: lane for role, lane in served.items() if lane is not None}
    for role, lane in lanes.items():
        if wanted is None or wanted.casefold() in _names(lane.loaded.model.name, [role], service.settings):
            return lane
    raise _unknown(wanted, [lane.loaded.model.name for lane in lanes.values()])


def _names(name: str, roles: list[str], settings: ServerSettings) -> set[str]:
    """What a client may call a model: as the server calls it, without its organisation, or as `localhf serve` did."""
    stated = {
        "text": settings.text or settings.clip_text or settings.clip,
        "clip_text": settings.clip_text or settings.clip,
        "image": settings.clip,
        "rerank": settings.rerank,
    }
    given = [stated[role] for role in roles]
    return {known.casefold() for known in (name, name.rpartition("/")[2], *given) if known}


def _unknown(wanted: str | None, served: list[str]) -> UnknownModelError:
    what = "no model for texts is served" if wanted is None else f"the model {wanted!r} is not served"
    if not served:
        return UnknownModelError(what, hint="start the server with localhf serve --text MODEL")
    hint = f"name one of {', '.join(map(repr, dict.fromkeys(served)))}, or none"
    return UnknownModelError(what, hint=hint)


def _reply(body: EmbeddingsBody, loaded: LoadedEncoder, embedded: Embedded) -> JSONReply:
    vectors = embedded.vectors
    if body.dimensions is not None:
        vectors = shaped(vectors, loaded, dimensions=body.dimensions, normalize=True)
    rows: Iterable[object] = vectors
    if body.encoding_format == "base64":
        rows = (base64.b64encode(row).decode() for row in vectors.astype("<f4", copy=False))
    data = [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)]
    tokens = sum(embedded.token_counts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    content = {"object": "list", "model": loaded.model.name, "data": data, "usage": usage}
    return JSONReply(content, headers=truncation_headers(embedded.cut))


def _listed(models: Models, started: int) -> list[dict[str, Any]]:
    """Every model once, with all that it is served for; the one for texts first."""
    lanes = {"text": models.texts, "clip_text": models.clip_texts, "image": models.images, "rerank": models.pairs}
    listed: dict[int, dict[str, Any]] = {}
    for role, lane in lanes.items():
        if lane is not None:
            entry = listed.setdefault(id(lane.loaded), {**_entry(lane.loaded, started), "roles": []})
            entry["roles"].append(role)
    return list(listed.values())


def _entry(loaded: LoadedEncoder | LoadedScorer, started: int) -> dict[str, Any]:
    known = facts(loaded)
    name = known.pop("name")
    organisation, _, _ = name.rpartition("/")
    return {"id": name, "object": "model", "created": started, "owned_by": organisation or "local", **known}
