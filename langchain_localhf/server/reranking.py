"""`/rerank`: one path, and the three forms in which clients ask for scores, told apart by the body.

`texts` is text-embeddings-inference's. `documents` is Weaviate's, Cohere's, Jina's and infinity's: the reply has what
each of them reads, `scores` in the order of the request and `results` with the best first. `property` alone is the
single text of Weaviate's container.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from starlette.routing import Route

from langchain_localhf.errors import InputError
from langchain_localhf.server.failures import MalformedError, UnknownModelError
from langchain_localhf.server.reading import Body, Texts
from langchain_localhf.server.replies import JSONReply
from langchain_localhf.server.vectors import truncation_headers

if TYPE_CHECKING:
    from starlette.requests import Request

    from langchain_localhf.loaded import LoadedScorer
    from langchain_localhf.server.service import Service


class Document(Body):
    """A document, as Cohere and Jina write it where it is more than a text."""

    text: str


class RerankBody(Body):
    """What all of them take together.

    Attributes:
        query: What the documents are compared with.
        documents: The documents.
        property: The only document, in the first form of Weaviate's container.
        top_n: How many of the `results` are wanted; None for all.
        return_documents: Whether `results` repeat the documents.
        texts: The documents, as text-embeddings-inference calls them.
        return_text: Whether its reply repeats them.
        raw_scores: Whether scores are wanted before the model's activation function.
        truncate: Whether a pair may be cut that is longer than what the model reads; it may, unless this says no.
        truncation_direction: Where it is cut.
    """

    query: str
    documents: list[str | Document] | None = None
    property: str | None = None
    top_n: int | None = None
    return_documents: bool | None = None
    texts: Texts | None = None
    return_text: bool | None = None
    raw_scores: bool | None = None
    truncate: bool | None = None
    truncation_direction: Literal["left", "Left", "right", "Right"] | None = None


def routes(service: Service) -> list[Route]:
    """The paths of these protocols; Cohere's and Jina's clients put a version before it."""

    async def rerank(request: Request) -> JSONReply:
        async with service.bodies.reading(request, RerankBody) as body:
            model = service.models.pairs
            if model is None:
                hint = "start the server with localhf serve --rerank MODEL"
                raise UnknownModelError("no cross-encoder is served", hint=hint)
            name, texts = _texts(body)
            service.bodies.check_count(texts, name)
            _check_settings(body, model.loaded)
            scored = await model.score(body.query, texts)
            if scored.cut and body.truncate is False:
                index = scored.cut[0]
                msg = f"{name}[{index}] has with the query more tokens than the model reads"
                raise InputError(msg, index=index, hint="split it, or leave truncate out to score its beginning")
            reply = _reply(body, texts, scored.scores, model.loaded.model.name)
            return JSONReply(reply, headers=truncation_headers(scored.cut))

    return [Route(path, rerank, methods=["POST"]) for path in ("/rerank", "/v1/rerank", "/v2/rerank")]


def _texts(body: RerankBody) -> tuple[str, list[str]]:
    """What is to be compared with the query, and what the request calls it.

    Raises:
        MalformedError: There is nothing.
    """
    if body.texts is not None:
        return "texts", body.texts
    if body.documents is not None:
        return "documents", [one if isinstance(one, str) else one.text for one in body.documents]
    if body.property is not None:
        return "property", [body.property]
    raise MalformedError("there is nothing to rank", hint="send documents, or texts, or property")


def _check_settings(body: RerankBody, loaded: LoadedScorer) -> None:
    """Checks what the client wants to have.

    Raises:
        InputError: The model cannot give it, or nobody can.
    """
    if body.raw_scores and not _gives_raw_scores(loaded):
        msg = f"the scores of {loaded.model.name} come after its activation function"
        raise InputError(msg, hint="leave raw_scores out; the order is the same")
    if body.truncation_direction in ("left", "Left"):
        msg = "a pair that is too long can be cut at its end only"
        raise InputError(msg, hint='leave truncation_direction="left" out')
    if body.top_n is not None and body.top_n < 1:
        raise InputError(f"top_n is {body.top_n}", hint="ask for at least one, or leave it out for all")


def _gives_raw_scores(loaded: LoadedScorer) -> bool:
    """Whether nothing lies between the model's last layer and its scores; where no file says so, a sigmoid may."""
    stated = loaded.checkpoint.activations.values()
    return bool(stated) and all(name.endswith(".Identity") for name in stated)


def _reply(body: RerankBody, texts: list[str], scores: list[float], model: str) -> object:
    if body.texts is not None:
        return _ranks(texts, scores, with_text=bool(body.return_text))
    if body.documents is None:
        return {"query": body.query, "scores": None, "property": body.property, "score": scores[0]}
    return {
        # Weaviate's container: read by their places.
        "query": body.query,
        "scores": [{"document": text, "score": score} for text, score in zip(texts, scores, strict=True)],
        "property": None,
        "score": None,
        # Cohere, Jina and infinity.
        "object": "rerank",
        "model": model,
        "results": _results(texts, scores, with_text=bool(body.return_documents))[: body.top_n],
    }


def _ranks(texts: list[str], scores: list[float], *, with_text: bool) -> list[dict[str, Any]]:
    return [
        {"index": index, "score": scores[index], **({"text": texts[index]} if with_text else {})}
        for index in _best_first(scores)
    ]


def _results(texts: list[str], scores: list[float], *, with_text: bool) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "relevance_score": scores[index],
            **({"document": {"text": texts[index]}} if with_text else {}),
        }
        for index in _best_first(scores)
    ]


def _best_first(scores: list[float]) -> list[int]:
    """The places of the scores; of equal ones, the first first."""
    return sorted(range(len(scores)), key=lambda index: -scores[index])
