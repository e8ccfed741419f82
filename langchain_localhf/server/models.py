"""The models of a server: loaded once, each with its queue."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_localhf.errors import InputError, UnsupportedModelError
from langchain_localhf.loading import load_encoder, load_scorer
from langchain_localhf.server.described import described
from langchain_localhf.server.inference import ImageInference, PairInference, TextInference

if TYPE_CHECKING:
    from langchain_localhf.loaded import LoadedScorer
    from langchain_localhf.server.metrics import Metrics
    from langchain_localhf.server.settings import ServerSettings


@dataclass(frozen=True)
class Models:
    """What a server can do.

    Attributes:
        texts: The embedding model for texts; the texts' side of the model for images, if no other was named.
        clip_texts: The model for texts that are compared with images.
        images: The model for images.
        pairs: The cross-encoder.
    """

    texts: TextInference | None = None
    clip_texts: TextInference | None = None
    images: ImageInference | None = None
    pairs: PairInference | None = None

    @classmethod
    def load(cls, settings: ServerSettings, metrics: Metrics) -> Models:
        """Loads, verifies and proves every model that is named; takes seconds, and computes once with each.

        Raises:
            UnsupportedModelError: A model is named for what it cannot do, or two towers do not fit.
            LocalHFError: As `load_encoder` and `load_scorer`.
        """
        options: dict[str, Any] = {"backend": settings.backend}
        if settings.trust_remote_code:
            options["model_kwargs"] = {"trust_remote_code": True}

        def texts(name: str, role: str, pooling: str | None = None) -> TextInference:
            loaded = load_encoder(name, pooling=pooling, **options)
            return TextInference(loaded, metrics=metrics.of_model(role), limits=settings.limits)

        pairs = images = clip_texts = None
        if settings.clip is not None:
            images = ImageInference(
                load_encoder(settings.clip, **options), metrics=metrics.of_model("images"), limits=settings.limits
            )
            clip_texts = texts(settings.clip_text or settings.clip, "clip_texts")
            _require_one_space(images, clip_texts)
        if settings.rerank is not None:
            scorer = load_scorer(settings.rerank, **options)
            _require_one_score(scorer)
            pairs = PairInference(scorer, metrics=metrics.of_model("rerank"), limits=settings.limits)
        models = cls(
            texts=texts(settings.text, "texts", settings.pooling) if settings.text is not None else clip_texts,
            clip_texts=clip_texts,
            images=images,
            pairs=pairs,
        )
        described(models)  # reads files; whoever asks later is answered from memory
        return models

    async def close(self) -> None:
        """Computes what waits already, and takes nothing more."""
        lanes = {id(lane): lane for lane in (self.texts, self.clip_texts, self.images, self.pairs) if lane}
        await asyncio.gather(*(lane.close() for lane in lanes.values()))


def _require_one_score(scorer: LoadedScorer) -> None:
    """Checks that a model's scores order texts; asked now, for no request could mend it."""
    try:
        scorer.place_of()
    except InputError as error:
        msg = f"{error.message}, so texts cannot be ranked"
        raise UnsupportedModelError(msg, hint="name a reranker, which has one label") from None


def _require_one_space(images: ImageInference, texts: TextInference) -> None:
    """Checks that texts and images can be compared at all."""
    dimensions = images.loaded.encoder.dimension, texts.loaded.encoder.dimension
    if dimensions[0] != dimensions[1]:
        msg = (
            f"{images.loaded.model.name} makes vectors of {dimensions[0]} numbers and {texts.loaded.model.name} of "
            f"{dimensions[1]}, so images and texts cannot be compared"
        )
        raise UnsupportedModelError(msg, hint="name a text model that was made for this image model")
