"""What kind of model a checkpoint is, told from its files, so that it is not taken for one of another kind.

sentence-transformers and transformers load any checkpoint as whatever they are asked for, and fill in what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_localhf.checkpoint.modules import read_json
from langchain_localhf.errors import IncompleteModelError, UnsupportedModelError

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_localhf.checkpoint.checkpoint import Checkpoint

POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
# Architectures with a tower for texts and one for images, each of which ends in one vector of the same space.
DUAL_ENCODERS = ("altclip", "chinese_clip", "clip", "metaclip_2", "siglip")
# Others of the kind, which read an image or a text in a way that nothing here knows.
_OTHER_DUAL_ENCODERS = ("align", "blip", "clipseg", "flava", "groupvit", "siglip2")
_HALVES = {f"{whole}_{half}_model": whole for whole in DUAL_ENCODERS for half in ("text", "vision")}
_CROSS_ENCODER = "CrossEncoder"
_CLASSIFIER = "ForSequenceClassification"


def is_cross_encoder(checkpoint: Checkpoint) -> bool:
    """Whether these files are a cross-encoder: saved as one, or a plain transformer with a classifier behind it."""
    if checkpoint.modules or "model_type" in checkpoint.settings:
        return checkpoint.settings.get("model_type") == _CROSS_ENCODER
    return any(name.endswith(_CLASSIFIER) for name in _architectures(checkpoint))


def is_encoder(checkpoint: Checkpoint) -> bool:
    """Whether these files are an embedding model that needs nothing to be stated by the user."""
    if checkpoint.modules:
        return bool(checkpoint.settings.get("model_type", "SentenceTransformer") == "SentenceTransformer")
    return image_folder(checkpoint) is not None and not is_cross_encoder(checkpoint)


def image_folder(checkpoint: Checkpoint) -> Path | None:
    """The folder of the dual encoder among the transformers of a model; None for a model that reads texts only."""
    for folder in checkpoint.transformer_folders:
        if read_json(folder / "config.json").get("model_type") in DUAL_ENCODERS:
            return folder
    return None


def auto_model(checkpoint: Checkpoint) -> str:
    """What transformers loads a model as, if it is no language model; some cross-encoders are one inside."""
    if not is_cross_encoder(checkpoint):
        return "AutoModel"
    writes = any(name.endswith("ForCausalLM") for name in _architectures(checkpoint))
    return "AutoModelForCausalLM" if writes else "AutoModelForSequenceClassification"


def require_encoder(checkpoint: Checkpoint, pooling: str | None) -> None:
    """Checks that these files are an embedding model that states its pooling, or is plain and has it stated.

    Raises:
        UnsupportedModelError: They are something else, or the pooling is not known.
        IncompleteModelError: Nothing states the pooling.
    """
    if is_cross_encoder(checkpoint):
        msg = f"{checkpoint.folder} is a cross-encoder (CrossEncoder): it scores pairs of texts, and makes no vectors"
        raise UnsupportedModelError(msg, hint="use it as a reranker, and an embedding model here")
    kind = checkpoint.settings.get("model_type", "SentenceTransformer")
    if kind != "SentenceTransformer":
        msg = f"{checkpoint.folder} was saved as a {kind}, not as a SentenceTransformer"
        raise UnsupportedModelError(msg, hint="use an embedding model here")
    if not checkpoint.modules:
        _require_pooling_that_fits(checkpoint, pooling)
    elif pooling is not None:
        msg = f"{checkpoint.folder} states its own pooling in modules.json; pooling={pooling!r} would contradict it"
        raise UnsupportedModelError(msg, hint="leave pooling out")


def _require_pooling_that_fits(checkpoint: Checkpoint, pooling: str | None) -> None:
    """Checks that a plain checkpoint has its pooling stated, if it needs any."""
    model_type = str(checkpoint.config.get("model_type"))
    if model_type in DUAL_ENCODERS:
        if pooling is not None:
            msg = f"{checkpoint.folder} ({model_type}) makes one vector itself; pooling={pooling!r} would contradict it"
            raise UnsupportedModelError(msg, hint="leave pooling out")
        return
    if whole := _HALVES.get(model_type):
        msg = f"{checkpoint.folder} is one half of a dual encoder ({model_type}), which is not enough for one space"
        raise UnsupportedModelError(msg, hint=f"use the whole model, whose config.json says model_type {whole!r}")
    if model_type in _OTHER_DUAL_ENCODERS:
        msg = f"{checkpoint.folder} is a model for texts and images of a kind that is not known here ({model_type})"
        raise UnsupportedModelError(msg, hint=f"use a model of one of these kinds: {', '.join(DUAL_ENCODERS)}")
    if pooling is not None and pooling not in POOLING_MODES:
        msg = f"unknown pooling {pooling!r}"
        raise UnsupportedModelError(msg, hint=f"use one of {', '.join(POOLING_MODES)}")
    if pooling is None:
        msg = (
            f"{checkpoint.folder} has no modules.json, so nothing says how its token vectors become one vector; "
            "sentence-transformers would silently take the mean"
        )
        hint = (
            'pass pooling="mean" (or "cls", "lasttoken") as the model card says; '
            "if the repository has a modules.json, pull it again"
        )
        raise IncompleteModelError(msg, missing=("modules.json",), hint=hint)


def require_scorer(checkpoint: Checkpoint) -> None:
    """Checks that these files are a cross-encoder.

    Raises:
        UnsupportedModelError: They are something else; sentence-transformers would give it a random classifier.
    """
    if is_cross_encoder(checkpoint):
        return
    if checkpoint.modules:
        kind = checkpoint.settings.get("model_type", "SentenceTransformer")
        what, hint = f"was saved as a {kind}", "embed with it (HuggingFaceEmbeddings), and use a cross-encoder here"
    else:
        architectures = ", ".join(_architectures(checkpoint)) or "no architecture"
        what, hint = f"names {architectures}", "use a model that names a ...ForSequenceClassification in config.json"
    msg = f"{checkpoint.folder} is no cross-encoder: it {what}, and has no classifier that scores pairs of texts"
    raise UnsupportedModelError(msg, hint=hint)


def require_language_model(checkpoint: Checkpoint) -> None:
    """Checks that these files are neither an embedding model nor a cross-encoder.

    Raises:
        UnsupportedModelError: They are.
    """
    if is_cross_encoder(checkpoint):
        msg = f"{checkpoint.folder} is a cross-encoder: it scores pairs of texts, and writes none"
        raise UnsupportedModelError(msg, hint="use it as a reranker")
    if checkpoint.modules:
        msg = f"{checkpoint.folder} is an embedding model (it has a modules.json), and writes no text"
        raise UnsupportedModelError(msg, hint="use HuggingFaceEmbeddings for it")


def activations(checkpoint: Checkpoint) -> dict[str, str]:
    """The activation functions behind the transformer, by the file that names them."""
    named = {
        part.configuration: read_json(checkpoint.folder / part.configuration).get("activation_function")
        for part in checkpoint.parts
        if part.class_name == "Dense" and part.configuration
    }
    if is_cross_encoder(checkpoint):
        legacy = checkpoint.config.get("sbert_ce_default_activation_function")
        inside = checkpoint.config.get("sentence_transformers")
        named["config.json"] = inside.get("activation_fn", legacy) if isinstance(inside, dict) else legacy
        named["config_sentence_transformers.json"] = checkpoint.settings.get("activation_fn")
    return {path: str(function) for path, function in named.items() if function is not None}


def _architectures(checkpoint: Checkpoint) -> list[str]:
    named = checkpoint.config.get("architectures")
    return [str(name) for name in named] if isinstance(named, list) else []
