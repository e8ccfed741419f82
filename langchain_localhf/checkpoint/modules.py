"""The parts of a sentence-transformers model, as `modules.json` and the parts' own configurations state them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_localhf.errors import CheckpointError, UnsafeModelError

PULL_AGAIN = "pull or copy the model again"

# Where a class keeps its configuration, for those that take defaults, or fail without a name, where it is missing.
_CONFIGURATIONS = {
    "CNN": "cnn_config.json",
    "Dense": "config.json",
    "LayerNorm": "config.json",
    "LSTM": "lstm_config.json",
    "Pooling": "config.json",
    "WeightedLayerPooling": "config.json",
    "WordEmbeddings": "wordembedding_config.json",
}
_OWN_WEIGHTS = {"CNN", "Dense", "LayerNorm", "LSTM", "StaticEmbedding", "WeightedLayerPooling", "WordEmbeddings"}
_TRANSFORMERS = {"Transformer", "CLIPModel"}
_ROUTERS = {"Router", "Asym"}
_ROUTER_CONFIGURATIONS = ("router_config.json", "config.json")
# The names that pooling had before sentence-transformers 6, in the order in which several are concatenated.
_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True)
class Module:
    """One part of a model.

    Attributes:
        class_reference: The class as written, such as `sentence_transformers.models.Pooling`.
        path: Its folder inside the model's; empty for the model's folder itself.
    """

    class_reference: str
    path: str

    @property
    def class_name(self) -> str:
        """The class without its package."""
        return self.class_reference.rpartition(".")[2]

    @property
    def is_foreign(self) -> bool:
        """Whether the class comes from the repository itself and not from sentence-transformers."""
        return not self.class_reference.startswith("sentence_transformers.")

    @property
    def is_transformer(self) -> bool:
        """Whether the part is a model of transformers, with its own configuration, weights and tokenizer."""
        return self.class_name in _TRANSFORMERS

    @property
    def has_own_weights(self) -> bool:
        """Whether the part has weights beside those of the transformer."""
        return self.class_name in _OWN_WEIGHTS

    @property
    def configuration(self) -> str | None:
        """The file, relative to the model's folder, without which the part would be another; None if it needs none."""
        name = _CONFIGURATIONS.get(self.class_name)
        return name and (Path(self.path) / name).as_posix()


def read_modules(folder: Path) -> tuple[Module, ...]:
    """The entries of `modules.json`, in order.

    Raises:
        CheckpointError: The file is damaged.
        UnsafeModelError: It points outside the model's folder.
    """
    path = folder / "modules.json"
    entries = read_json(path, expected=list)
    try:
        modules = tuple(Module(str(entry["type"]), str(entry["path"])) for entry in entries)
    except (KeyError, TypeError) as error:
        msg = f"{path} is damaged: every module needs a type and a path"
        raise CheckpointError(msg, hint=PULL_AGAIN) from error
    if not modules:
        raise CheckpointError(f"{path} lists no modules", hint=PULL_AGAIN)
    _refuse_outside(path, modules)
    return modules


def with_routes(folder: Path, modules: tuple[Module, ...]) -> tuple[Module, ...]:
    """The modules, and those that routers among them lead to.

    Raises:
        CheckpointError: The configuration of a router is damaged.
        UnsafeModelError: It points outside the model's folder.
    """
    routes: list[Module] = []
    for router in modules:
        if router.class_name not in _ROUTERS:
            continue
        paths = (folder / router.path / name for name in _ROUTER_CONFIGURATIONS)
        path = next((path for path in paths if path.is_file()), None)
        types = read_json(path).get("types") if path else None
        if path is None or not isinstance(types, dict):
            msg = f"the router in {folder / router.path} has no configuration that says where it leads"
            raise CheckpointError(msg, hint=PULL_AGAIN)
        found = tuple(Module(str(kind), (Path(router.path) / name).as_posix()) for name, kind in types.items())
        _refuse_outside(path, found)
        routes += found
    return (*modules, *routes)


def read_pooling(path: Path) -> tuple[str, ...]:
    """The pooling that the configuration of a pooling module states; empty if it states none.

    Raises:
        CheckpointError: The file is damaged.
    """
    config = read_json(path)
    stated = config.get("pooling_mode") or [mode for key, mode in _LEGACY_POOLING.items() if config.get(key)]
    modes = [stated] if isinstance(stated, str) else stated
    if not isinstance(modes, list) or not all(isinstance(mode, str) for mode in modes):
        msg = f"{path} should hold the name of a pooling mode, not {stated!r}"
        raise CheckpointError(msg, hint=PULL_AGAIN)
    return tuple(modes)


def read_json(path: Path, expected: type = dict) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """The content of a JSON file; an empty container if there is no such file.

    Raises:
        CheckpointError: The file is no JSON, or holds something else than the expected container.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return expected()
    except (ValueError, RecursionError) as error:
        msg = f"{path} is no valid JSON: {error}"
        raise CheckpointError(msg, hint=PULL_AGAIN) from error
    if not isinstance(content, expected):
        msg = f"{path} should hold a JSON {'object' if expected is dict else 'array'}"
        raise CheckpointError(msg, hint=PULL_AGAIN)
    return content


def _refuse_outside(source: Path, modules: tuple[Module, ...]) -> None:
    outside = [module.path for module in modules if Path(module.path).is_absolute() or ".." in Path(module.path).parts]
    if outside:
        msg = f"{source} points outside the model's folder: {', '.join(outside)}"
        raise UnsafeModelError(msg, hint="do not use this model")
