"""The class of langchain_community that the cross-encoder replaces; its package warns about its own end."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@functools.cache
def cross_encoder_class() -> Any:
    """`langchain_community.cross_encoders.HuggingFaceCrossEncoder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from langchain_community.cross_encoders import (  # noqa: PLC0415 - inside the guard for its warnings
            HuggingFaceCrossEncoder,
        )

        return HuggingFaceCrossEncoder


def cross_encoder(folder: Path | str) -> Any:
    """That class with the model in a folder, on the CPU and without a network."""
    return cross_encoder_class()(model_name=str(folder), model_kwargs={"device": "cpu", "local_files_only": True})
