"""Loads an embedding model into sentence-transformers, from a folder, as texts and images are to be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from langchain_localhf.checkpoint.kinds import DUAL_ENCODERS
from langchain_localhf.errors import CheckpointError, EngineNotInstalledError

if TYPE_CHECKING:
    from langchain_localhf.checkpoint.checkpoint import Checkpoint

# Trained with texts that were all padded to the same length, and without a mask; it reads the vector of the last token.
_ALWAYS_PADDED = {"siglip"}
# What a SigLIP that was saved without tokenizer.json needs.
_OF_TOKENIZERS = ("sentencepiece", "protobuf")
_PADDED = {"padding": "max_length", "return_attention_mask": False}


def load_embedding_model(
    checkpoint: Checkpoint, pooling: str | None, model_kwargs: dict[str, Any]
) -> SentenceTransformer:
    """Loads a model.

    Args:
        checkpoint: The model's files.
        pooling: The pooling for a plain transformer checkpoint; None for a model that states its own, or needs none.
        model_kwargs: What `SentenceTransformer(...)` takes.

    Raises:
        CheckpointError: The files are damaged, or the settings do not fit to them.
        EngineNotInstalledError: The tokenizer of SigLIP needs a library.
    """
    settings = {**model_kwargs, "local_files_only": True}
    for located in ("revision", "cache_folder"):  # they named the folder, and have done their work
        settings.pop(located, None)
    try:
        if checkpoint.modules:
            model = SentenceTransformer(str(checkpoint.folder), **settings)
        else:
            model = _from_transformer(checkpoint, pooling, settings)
    except torch.OutOfMemoryError:
        raise
    except ImportError as error:
        raise _of_tokenizer(checkpoint, error) from error
    except (OSError, KeyError, RuntimeError, SafetensorError, ValueError) as error:
        msg = f"{checkpoint.folder} cannot be loaded: {error}"
        raise CheckpointError(
            msg, hint="check model_kwargs, if there are any; else pull or copy the model again"
        ) from error
    for part in model.modules():
        if isinstance(part, Transformer) and part.config.model_type in DUAL_ENCODERS:
            _read_texts_as_trained(part)
    return model


def _of_tokenizer(checkpoint: Checkpoint, error: ImportError) -> ImportError:
    """What a missing library of SigLIP's tokenizer means to the user; any other error as it is."""
    missing = next((library for library in _OF_TOKENIZERS if library in str(error).lower()), None)
    if missing is None:
        return error
    msg = f"the tokenizer of {checkpoint.folder} needs {missing}, which is not installed"
    return EngineNotInstalledError(msg, hint='pip install "langchain-localhf[image]"')


def padded_to(model: SentenceTransformer) -> int | None:
    """How many tokens every text has; None for a model whose texts are padded to the longest one only."""
    first = model[0]
    if not isinstance(first, Transformer) or first.tokenizer is None:
        return None
    always = first.processing_kwargs.get("text", {}).get("padding") == _PADDED["padding"]
    return int(first.tokenizer.model_max_length) if always else None


def _from_transformer(checkpoint: Checkpoint, pooling: str | None, settings: dict[str, Any]) -> SentenceTransformer:
    shared = {"local_files_only": True, "trust_remote_code": settings["trust_remote_code"]}
    tokenizer_settings = settings.pop("processor_kwargs", None) or settings.pop("tokenizer_kwargs", None) or {}
    transformer = Transformer(
        str(checkpoint.folder),
        model_kwargs={**shared, **(settings.pop("model_kwargs", None) or {})},
        processor_kwargs={**shared, **tokenizer_settings},
        config_kwargs={**shared, **(settings.pop("config_kwargs", None) or {})},
        backend=settings.pop("backend", "torch"),
    )
    settings["prompts"] = {**checkpoint.prompts, **(settings.get("prompts") or {})}
    modules: list[torch.nn.Module] = [transformer]
    if pooling is not None:
        modules.append(Pooling(transformer.get_embedding_dimension(), pooling))
    return SentenceTransformer(modules=modules, **settings)


def _read_texts_as_trained(transformer: Transformer) -> None:
    """Makes texts as long as the text tower was trained with, for which sentence-transformers looks elsewhere."""
    config = transformer.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    tokenizer = transformer.tokenizer
    if tokenizer is None or positions is None:
        return
    tokenizer.model_max_length = min(tokenizer.model_max_length, positions)
    if transformer.config.model_type in _ALWAYS_PADDED:
        stated = transformer.processing_kwargs
        transformer.processing_kwargs = {**stated, "text": {**_PADDED, **stated.get("text", {})}}
