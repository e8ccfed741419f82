"""Reads the cache that Hugging Face's own tools fill. Never downloads."""

from __future__ import annotations

import re
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


def find_sibling(snapshot: Path, repository: str) -> Path | None:
    """The folder of another repository's `main` in the cache that holds `snapshot`, or None.

    Args:
        snapshot: The folder of a model; it need not be in a cache.
        repository: The other repository, `org/name`.
    """
    if snapshot.parent.name != "snapshots" or not snapshot.parents[1].name.startswith("models--"):
        return None
    home = snapshot.parents[2] / f"models--{repository.replace('/', '--')}"
    try:
        commit = (home / "refs" / "main").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    return home / "snapshots" / commit if re.fullmatch("[0-9a-f]{40}", commit) else None
