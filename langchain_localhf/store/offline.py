"""Switches the hub off while a model loads, so that no library underneath can reach for the network."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from huggingface_hub import constants
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from langchain_localhf.errors import NetworkRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator

_lock = threading.Lock()
_held = 0
_before = False


@contextlib.contextmanager
def hub_offline() -> Iterator[None]:
    """Makes huggingface_hub refuse every request while the context is held, in this process.

    The hub library has no public switch that works after its import; it reads this constant at each request, as do
    transformers and sentence-transformers through it. The switch counts its holders, so that models can load in
    several threads at once, and the last one restores what was there before.

    Raises:
        NetworkRefusedError: Something inside the context tried to reach the hub.
    """
    global _held, _before  # noqa: PLW0603 - the switch is one per process, as the constant is
    with _lock:
        if _held == 0:
            _before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
        _held += 1
    try:
        yield
    except Exception as error:
        if not _came_from_the_hub(error):
            raise
        msg = f"loading the model tried to reach the network, which is refused at run time: {error}"
        hint = "the model names another repository; pull that one too, or use a model that is complete in itself"
        raise NetworkRefusedError(msg, hint=hint) from error
    finally:
        with _lock:
            _held -= 1
            if _held == 0:
                constants.HF_HUB_OFFLINE = _before


def _came_from_the_hub(error: BaseException | None) -> bool:
    """Whether the hub's library refused a request; transformers wraps its errors in others that do not say so."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False
