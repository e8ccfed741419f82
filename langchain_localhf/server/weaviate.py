"""The protocols of Weaviate's inference containers: multi2vec-clip and text2vec-transformers.

Each container has its own way to scale vectors, and Weaviate adds them up as they come: here they come the same.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Literal

from starlette.routing import Route

from langchain_localhf.errors import InputError
from langchain_localhf.server.described import described
from langchain_localhf.server.failures import UnknownModelError
from langchain_localhf.server.reading import Body, Texts
from langchain_localhf.server.replies import JSONReply
from langchain_localhf.server.vectors import check_dimensions, shaped, truncation_headers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from starlette.requests import Request

    from langchain_localhf.loaded import LoadedEncoder
    from langchain_localhf.server.inference import ImageInference, TextInference
    from langchain_localhf.server.models import Models
    from langchain_localhf.server.service import Service

_DATA_URI = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]{1,20}:", re.IGNORECASE)
_MOST_PADDING = "=="


class VectorizeBody(Body):
    """What multi2vec-clip takes.

    Attributes:
        texts: Texts.
        images: Files such as JPEG or PNG, in base64.
    """

    texts: Texts | None = None
    images: Texts | None = None


class VectorsConfig(Body):
    """How text2vec-transformers is to embed a text.

    Attributes:
        pooling_strategy: Not followed: models say themselves how their tokens become one vector, and Weaviate sends
            the same for all of them.
        task_type: What the text is, for models with prompts.
        dimensions: How many numbers of the vector are wanted; None for all.
    """

    pooling_strategy: str | None = None
    task_type: Literal["query", "passage", "document", ""] | None = None
    dimensions: int | None = None


class VectorsBody(Body):
    """What text2vec-transformers takes: one text."""

    text: str
    config: VectorsConfig | None = None


def routes(service: Service) -> list[Route]:
    """The paths of both containers, and `/meta`, which the reranker's has, too."""

    async def vectorize(request: Request) -> JSONReply:
        async with service.bodies.reading(request, VectorizeBody) as body:
            return await _vectorized(service, body.texts or [], body.images or [])

    async def vectors(request: Request) -> JSONReply:
        async with service.bodies.reading(request, VectorsBody) as body:
            return await _vector(service, body.text, body.config or VectorsConfig())

    async def meta(_: Request) -> JSONReply:
        return JSONReply(_meta(service.models))

    return [
        Route("/vectorize", vectorize, methods=["POST"]),
        # Weaviate follows no redirect from one to the other.
        Route("/vectors", vectors, methods=["POST"]),
        Route("/vectors/", vectors, methods=["POST"]),
        Route("/meta", meta),
    ]


async def _vectorized(service: Service, texts: list[str], images: list[str]) -> JSONReply:
    text_model, image_model = service.models.clip_texts, service.models.images
    if text_model is None or image_model is None:
        raise UnknownModelError(
            "no model for images is served", hint="start the server with localhf serve --clip MODEL"
        )
    if texts:
        service.bodies.check_count(texts, "texts")
    if images:
        service.bodies.check_count(images, "images", limit=service.settings.limits.images)
    (text_vectors, cut), image_vectors = await asyncio.gather(
        _of_texts(text_model, texts), _of_images(image_model, images)
    )
    return JSONReply({"textVectors": text_vectors, "imageVectors": image_vectors}, headers=truncation_headers(cut))


async def _of_texts(model: TextInference, texts: list[str]) -> tuple[NDArray[np.float32] | list[Any], tuple[int, ...]]:
    if not texts:
        return [], ()
    embedded = await model.embed(texts)
    return shaped(embedded.vectors, model.loaded, normalize=_scales(model.loaded)), embedded.cut


async def _of_images(model: ImageInference, images: list[str]) -> NDArray[np.float32] | list[Any]:
    if not images:
        return []
    vectors = await model.embed(await asyncio.to_thread(_decoded, images))
    return shaped(vectors, model.loaded, normalize=_scales(model.loaded))


def _scales(loaded: LoadedEncoder) -> bool:
    """Whether multi2vec-clip scales the vectors of such a model: those of a plain CLIP, and no others."""
    model_type = str(loaded.checkpoint.config.get("model_type"))
    return not loaded.checkpoint.modules and not model_type.startswith("siglip")


def _decoded(images: list[str]) -> list[bytes]:
    """The files, from base64; characters that base64 does not have are ignored, as the container does.

    Raises:
        InputError: One of them is none; the error names its index.
    """
    files = []
    for index, image in enumerate(images):
        uri = _DATA_URI.match(image)
        if uri is None and _ADDRESS.match(image):
            msg = f"images[{index}] is an address, and nothing is fetched"
            raise InputError(msg, index=index, hint="send the file itself, in base64")
        try:
            files.append(base64.b64decode((image[uri.end() :] if uri else image) + _MOST_PADDING))
        except (binascii.Error, ValueError) as error:
            msg = f"images[{index}] is not in base64: {error}"
            raise InputError(msg, index=index, hint="send the file in base64, without a prefix") from None
    return files


async def _vector(service: Service, text: str, config: VectorsConfig) -> JSONReply:
    model = service.models.texts
    if model is None:
        raise UnknownModelError("no model for texts is served", hint="start the server with localhf serve --text MODEL")
    check_dimensions(config.dimensions, model.loaded)
    embedded = await model.embed([text], kind="query" if config.task_type == "query" else "document")
    # The container scales the vectors of sentence-transformers' models, and not those of a plain transformer. The texts
    # of a model for images come as `/vectorize` gives them, whichever way they are asked for.
    is_for_texts = model is not service.models.clip_texts
    normalize = bool(model.loaded.checkpoint.modules) if is_for_texts else _scales(model.loaded)
    vectors = shaped(embedded.vectors, model.loaded, dimensions=config.dimensions, normalize=normalize)
    size = vectors.shape[1]
    # Weaviate reads `dims`, and the container writes `dim`.
    reply = {"text": text, "vector": vectors[0], "dim": size, "dims": size}
    return JSONReply(reply, headers=truncation_headers(embedded.cut))


def _meta(models: Models) -> dict[str, Any]:
    """What the containers say, each with its own keys, and what this server knows besides."""
    meta: dict[str, Any] = {}
    if first := models.texts or models.pairs:
        meta["model"] = first.loaded.checkpoint.config
    if models.clip_texts and models.images:
        meta["text_model"] = models.clip_texts.loaded.checkpoint.config
        meta["clip_model"] = models.images.loaded.checkpoint.config
    return {**meta, "localhf": described(models)}
