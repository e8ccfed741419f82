"""Watches what reaches sentence-transformers, and lets it do its work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sentence_transformers import SentenceTransformer

if TYPE_CHECKING:
    import pytest


@dataclass
class Calls:
    """What one method of `SentenceTransformer` was called with.

    Attributes:
        inputs: The texts of all calls, in the order in which they came.
        settings: The keyword arguments of each call.
    """

    inputs: list[Any] = field(default_factory=list)
    settings: list[dict[str, Any]] = field(default_factory=list)


def watch(patch: pytest.MonkeyPatch, method: str) -> Calls:
    """Records the calls of a method of `SentenceTransformer` from now on."""
    real = getattr(SentenceTransformer, method)
    calls = Calls()

    def watched(self: SentenceTransformer, *args: Any, **settings: Any) -> Any:
        named = dict(settings)
        inputs = named.pop("inputs", args[0] if args else [])
        calls.inputs += [inputs] if isinstance(inputs, str) else list(inputs)
        calls.settings.append(named)
        return real(self, *args, **settings)

    patch.setattr(SentenceTransformer, method, watched)
    return calls
