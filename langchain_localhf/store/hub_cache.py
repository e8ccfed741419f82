"""Reads the cache that Hugging Face's own tools fill. Never downloads."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

# A snapshot that can be loaded has one of these.
_CONFIGURATION_FILES = ("modules.json", "config.json")


def find_snapshot(repository: str, revision: str | None, cache: Path) -> Path | None:
    """The folder of a cached snapshot, or None.

    Args:
        repository: `org/name`, or a bare name.
        revision: A branch, tag or full commit; None for `main`.
        cache: The cache's folder, with `models--org--name` folders in it.
    """
    for name in _CONFIGURATION_FILES:
        try:
            found = try_to_load_from_cache(repository, name, cache_dir=cache, revision=revision)
        except HFValidationError:
            return None
        if isinstance(found, str):
            return Path(found).parent
    return None
