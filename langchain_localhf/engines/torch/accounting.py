"""Accounts for the weights of foreign code against the files: every tensor by its name and by its values.

transformers marks the tensors that it has read, but a class that comes with a model can bring its own loader, which
marks none, or initialise a weight again after it was read. So here nothing but the files counts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedModel

from langchain_localhf.engines.torch.remote_code import is_foreign
from langchain_localhf.store import files as model_files

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from torch import Tensor

    from langchain_localhf.checkpoint.checkpoint import Checkpoint


@dataclass
class Account:
    """How the weights of a model's foreign parts compare with its files.

    Attributes:
        fresh: Tensors that no file holds, by their name in the model.
        altered: Names of tensors that differ from the file's.
        unused: Names of the files' tensors that no part of the model has.
    """

    fresh: dict[str, Tensor] = field(default_factory=dict)
    altered: list[str] = field(default_factory=list)
    unused: set[str] = field(default_factory=set)


def transformers_models(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, PreTrainedModel]]:
    """The outermost transformers models inside a module, each with its name."""
    if isinstance(module, PreTrainedModel):
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from transformers_models(child, f"{prefix}{name}.")


def runs_foreign_code(model: nn.Module) -> bool:
    """Whether a model, or a part of it, is of a class that came with it."""
    return any(map(is_foreign, model.modules()))


def foreign_parts(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The outermost parts of a model that are of foreign code, each with its name."""
    if is_foreign(module) or (isinstance(module, PreTrainedModel) and runs_foreign_code(module)):
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from foreign_parts(child, f"{prefix}{name}.")


def account(model: nn.Module, checkpoint: Checkpoint, *, computed: Collection[str]) -> Account:
    """Compares the weights of the foreign parts of a model with its files, and sets those that no file holds to zero.

    Args:
        model: The model.
        checkpoint: Its files.
        computed: Names of tensors that are proved to be what the code computes, and need not be in a file.
    """
    parts = list(foreign_parts(model))
    files = _Files(checkpoint)
    result = Account()
    for prefix, part in parts:
        tensors = _weights(part)
        found: set[int] = set()
        for name, stored in files.match(tensors).items():
            found.add(id(tensors[name]))
            if not any(_same(tensors[name], candidate) for candidate in stored):
                result.altered.append(prefix + name)
        for name, tensor in tensors.items():
            if id(tensor) not in found and prefix + name not in computed:  # a tied weight is in the file once
                result.fresh[prefix + name] = tensor
                tensor.detach().zero_()  # it can be memory as the last program left it, which proves nothing
    if parts:
        result.unused = files.unused
    return result


def _weights(part: nn.Module) -> dict[str, Tensor]:
    """The weights of a part, but for those of models inside it that are transformers' own: it marks them."""
    marked = tuple(prefix for prefix, model in transformers_models(part) if not runs_foreign_code(model))
    return {
        name: tensor
        for name, tensor in part.state_dict(keep_vars=True).items()
        if isinstance(tensor, torch.Tensor) and not name.startswith(marked)
    }


class _Files:
    """The tensors of all weight files of a model, read one at a time."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        paths = [path for path in model_files.needed(checkpoint.files) if PurePosixPath(path).suffix == ".safetensors"]
        # One name can be in several files, each of another part of the model.
        self._places: dict[str, list[tuple[Any, str]]] = {}
        for path in paths:
            file = safe_open(checkpoint.folder / path, framework="pt")
            for name in file.keys():  # type: ignore[no-untyped-call]  # noqa: SIM118 - this is no mapping
                self._places.setdefault(_today(name), []).append((file, name))
        self._unused = set(self._places)

    def match(self, names: Collection[str]) -> dict[str, Iterator[Tensor]]:
        """The stored tensors that each of the names in a model means, for those that mean any."""
        change = _change_of_names([_today(name) for name in names], self._places)
        changed = {name: change(_today(name)) for name in names}
        self._unused.difference_update(changed.values())
        return {name: self._read(stored) for name, stored in changed.items() if stored in self._places}

    @property
    def unused(self) -> set[str]:
        """The names, as the files have them, that `match` never gave."""
        return {name for stored in self._unused for _, name in self._places[stored]}

    def _read(self, stored: str) -> Iterator[Tensor]:
        return (file.get_tensor(name) for file, name in self._places[stored])


def _today(name: str) -> str:
    """The name that a weight has today: transformers still reads the two that TensorFlow had for it."""
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def _change_of_names(names: Collection[str], stored: Collection[str]) -> Callable[[str], str]:
    """How names in a model become names in its files: one prefix more, one less, or as they are; the same for all.

    One rule for all names, so that a tensor that is missing is not taken for another one with a similar name.
    """
    more, less = Counter({"": 0}), Counter({"": 0})
    for name in names:
        more.update(other.removesuffix(name) for other in stored if other == name or other.endswith(f".{name}"))
        less.update(name.removesuffix(other) for other in stored if name.endswith(f".{other}"))
    (added, with_more), (removed, with_less) = more.most_common(1)[0], less.most_common(1)[0]
    if with_less > with_more:
        return lambda name: name.removeprefix(removed)
    return lambda name: added + name


def _same(tensor: Tensor, stored: Tensor) -> bool:
    return tensor.shape == stored.shape and torch.equal(tensor.detach().cpu(), stored.to(tensor.dtype))


def unreached(model: nn.Module, names: Collection[str], run: Callable[[], object]) -> list[str]:
    """Which of `names` lie in a module that did not run while one of its siblings did.

    Which part of a mixture of experts runs depends on the text. That such a part changes no vector of a few texts says
    nothing, so what lies in one that did not run has to be taken for used.

    Args:
        model: The model.
        names: Names of tensors in it.
        run: Runs the model.
    """
    families = list(_families(model, names))
    watched = {id(child): child for _, _, family in families for child in family}
    ran: set[int] = set()
    hooks = [child.register_forward_pre_hook(lambda child, _: ran.add(id(child))) for child in watched.values()]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return sorted(
        {name for name, own, family in families if id(own) not in ran and any(id(child) in ran for child in family)}
    )


def _families(model: nn.Module, names: Collection[str]) -> Iterator[tuple[str, nn.Module, list[nn.Module]]]:
    """For every list of modules that a tensor lies in: its name, the module around it, and all in the list."""
    for name in names:
        parts = name.split(".")
        for depth in range(1, len(parts) - 1):
            parent = model.get_submodule(".".join(parts[:depth]))
            if isinstance(parent, nn.ModuleList | nn.ModuleDict):
                yield name, parent.get_submodule(parts[depth]), list(parent.children())
