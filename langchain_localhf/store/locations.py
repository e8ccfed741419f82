"""Where models can be on this machine. The one function of the library that reads the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from langchain_localhf.store.reference import expand_user


@dataclass(frozen=True)
class Locations:
    """The places to look for a model, and the hub to pull from.

    Attributes:
        store: This package's own store, or None where the user has no home folder and names none.
        hub_caches: The Hugging Face caches, in the order in which sentence-transformers would look.
        endpoint: The address of the hub that `pull` asks; None for huggingface.co.
        optimum_cli: The program that exports language models to OpenVINO; None to look on the PATH.
    """

    store: Path | None
    hub_caches: tuple[Path, ...] = ()
    endpoint: str | None = None
    optimum_cli: Path | None = None


def from_environment(cache_folder: str | Path | None = None) -> Locations:
    """Reads the environment, now.

    Args:
        cache_folder: A Hugging Face cache to look into before the others.
    """
    environment = os.environ
    user_cache = _user_cache()
    store = environment.get("LOCALHF_HOME") or (user_cache and user_cache / "localhf")
    hub_home = environment.get("HF_HOME") or (user_cache and user_cache / "huggingface")
    caches = (
        cache_folder,
        environment.get("SENTENCE_TRANSFORMERS_HOME"),
        environment.get("HF_HUB_CACHE") or environment.get("HUGGINGFACE_HUB_CACHE"),
        hub_home and Path(hub_home) / "hub",
    )
    optimum_cli = environment.get("LOCALHF_OPTIMUM_CLI")
    return Locations(
        store=_expanded(store) if store else None,
        hub_caches=tuple(dict.fromkeys(_expanded(cache) for cache in caches if cache)),
        endpoint=environment.get("HF_ENDPOINT") or None,
        optimum_cli=_expanded(optimum_cli) if optimum_cli else None,
    )


def _expanded(path: str | Path) -> Path:
    # As the hub's own library reads these settings. Absolute, so that neither messages nor which models are shared
    # depend on the working directory.
    return expand_user(Path(os.path.expandvars(path))).absolute()


def _user_cache() -> Path | None:
    if configured := os.environ.get("XDG_CACHE_HOME"):
        return Path(configured)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # no $HOME and no such user, as in some containers
        return None
