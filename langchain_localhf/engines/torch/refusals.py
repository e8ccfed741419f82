"""What is refused that users ask of a model, and what a model lacks that they have to name."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from langchain_localhf.errors import CheckpointError, DeviceUnavailableError, UnsafeModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from langchain_localhf.checkpoint.checkpoint import Checkpoint


def refuse_pickle(model_kwargs: Mapping[str, Any]) -> None:
    """Refuses what would make `from_pretrained` read weights as pickle.

    Raises:
        UnsafeModelError: It would.
    """
    if model_kwargs.get("use_safetensors") is False:
        msg = "use_safetensors=False would read weights as pickle, which can run code when it is read"
        raise UnsafeModelError(msg, hint="leave use_safetensors out")


def check_device(device: object) -> None:
    """Checks that a device is on this machine; None is any.

    Raises:
        DeviceUnavailableError: It is not.
    """
    if device is None:
        return
    try:
        wanted = torch.device(device)  # type: ignore[call-overload]
    except (RuntimeError, TypeError) as error:
        msg = f"{device!r} is no device: {error}"
        raise DeviceUnavailableError(msg, hint='use "cpu", "cuda", "cuda:0" or "mps"') from error
    if wanted.type == "cuda" and (wanted.index or 0) >= torch.cuda.device_count():
        msg = f"there is no device {device!r} on this machine; torch sees {torch.cuda.device_count()} CUDA devices"
        raise DeviceUnavailableError(msg, hint='leave device out, or use "cpu"')
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        msg = f"there is no device {device!r} on this machine"
        raise DeviceUnavailableError(msg, hint='leave device out, or use "cpu"')


@contextlib.contextmanager
def padding_required(checkpoint: Checkpoint) -> Iterator[None]:
    """Says what is missing in a language model that reads texts together, and was saved without a padding token.

    Raises:
        CheckpointError: It is missing.
    """
    try:
        yield
    except ValueError as error:
        if "padding token" not in str(error):
            raise
        msg = f"{checkpoint.folder} names no padding token, so texts of different lengths cannot run together"
        hint = (
            "name it, as the model's card does, in model_kwargs: "
            '{"config_kwargs": {"pad_token_id": ...}, "processor_kwargs": {"pad_token": ...}}'
        )
        raise CheckpointError(msg, hint=hint) from error
