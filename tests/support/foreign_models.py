"""Models with their own code, loaded: the styles of `remote_checkpoints`, and what to compare them with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import normalize

from langchain_localhf.loading import open_model
from langchain_localhf.store.model_store import LocalModel
from support import remote_checkpoints
from support.remote_checkpoints import TEXTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from langchain_localhf.loaded import LoadedEncoder
    from support.remote_checkpoints import Foreign

STYLES: dict[str, Callable[[], Foreign]] = {
    "jina": remote_checkpoints.alibi,
    "jina with norms on queries and keys": lambda: remote_checkpoints.alibi(qk_post_norm=True),
    "MosaicBERT": remote_checkpoints.growing,
    "nomic": remote_checkpoints.rotary,
    "nomic without its own loader": lambda: remote_checkpoints.rotary(own_loader=False),
    "mixture of experts": remote_checkpoints.experts,
}


def open_anew(model: Path | LocalModel, *, trusted: bool = True, **model_kwargs: Any) -> LoadedEncoder:
    """Loads a model anew; equal requests do not share it."""
    model = model if isinstance(model, LocalModel) else LocalModel(model.name, model)
    settings = {"device": "cpu", "trust_remote_code": trusted, **model_kwargs}
    return open_model(model, pooling=None, model_kwargs=settings)


def encoded(loaded: LoadedEncoder, texts: Sequence[str] = TEXTS) -> Tensor:
    """Vectors of documents, with no settings."""
    return torch.from_numpy(loaded.encoder.encode(texts, kind="document", encode_kwargs={}))


def assert_same(vectors: Tensor, expected: Tensor) -> None:
    """Equal directions, to the precision of float32."""
    torch.testing.assert_close(normalize(vectors), normalize(expected), rtol=0, atol=1e-6)
