"""Builds models of foreign code with everything that their constructor computes, and proves that it is still there.

transformers 5 builds a model on the meta device, where tensors have a shape and no values, then loads the weights and
puts uninitialised memory in the place of everything else. For its own classes it computes the rest again; for classes
that come with a model it does not know how. So ALiBi biases and rotary frequencies become garbage, or zeros where they
are big, and with them goes the order of the words. Nothing is logged.

Here, such classes are built with their weights on the meta device and everything else real, which is what their authors
saw: buffers, lists of tensors, tensors in plain attributes, numbers taken out of tensors. Afterwards, everything
computed is compared with what a second instance computes.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from langchain_localhf.engines.torch.compatibility import CONFIG_DEFAULTS, METHODS
from langchain_localhf.errors import CheckpointError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from torch import Tensor

_ARGUMENTS = "_localhf_constructor"
_building = threading.RLock()
_OF_EVERY_MODULE = {*vars(nn.Module()), _ARGUMENTS} - {"_buffers"}


def adapt_classes(module: ModuleType) -> None:
    """Prepares the model classes that a module of foreign code defines; classes that it imported stay as they are."""
    for value in list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, PreTrainedModel) and value.__module__ == module.__name__:
            for name, method in METHODS.items():
                if not hasattr(value, name):
                    setattr(value, name, method)
            _tie_head(value)
            _construct_for_real(value)


def _tie_head(cls: Any) -> None:  # noqa: ANN401 - as below
    """Reads a list of tied weights, the form of transformers 4, as what it meant: the head is the table of words."""
    if isinstance(cls._tied_weights_keys, list):
        cls._tied_weights_keys = None
        cls.get_expanded_tied_weights_keys = _head_and_words


def _head_and_words(self: Any, all_submodels: bool = False) -> dict[str, str]:  # noqa: ANN401, ARG001, FBT001, FBT002 - the signature of transformers
    head, words = self.get_output_embeddings(), self.get_input_embeddings()
    if head is None or not self.config.tie_word_embeddings:
        return {}
    names = {id(module): name for name, module in self.named_modules()}
    return {f"{names[id(head)]}.weight": f"{names[id(words)]}.weight"}


def _construct_for_real(cls: Any) -> None:  # noqa: ANN401 - a model class, some of whose methods have no types
    cls.__init__ = _recording(cls.__init__)
    if hasattr(cls, _ARGUMENTS):  # it inherits the rest from another foreign class
        return
    setattr(cls, _ARGUMENTS, None)
    contexts_of, to_device = cls.get_init_context.__func__, cls._move_missing_keys_from_meta_to_device
    mark_tied = cls.mark_tied_weights_as_initialized

    def get_init_context(cls: type[PreTrainedModel], *args: Any, **kwargs: Any) -> list[Any]:  # noqa: ANN401 - passed on
        contexts = contexts_of(cls, *args, **kwargs)
        return [_weights_on_meta() if context == torch.device("meta") else context for context in contexts]

    def move(self: PreTrainedModel, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        computed = dict(self.named_buffers())
        to_device(self, *args, **kwargs)  # puts uninitialised memory in their place, on the right device
        for name, buffer in computed.items():
            path, _, leaf = name.rpartition(".")
            buffers: Any = self.get_submodule(path)._buffers  # noqa: SLF001 - to keep what kind of buffer it is
            if not buffer.is_meta:
                buffers[leaf] = buffer.to(buffers[leaf].device)

    def mark(self: PreTrainedModel, loading_info: Any) -> None:  # noqa: ANN401 - passed on
        tied = loading_info.missing_keys & self.all_tied_weights_keys.keys()
        mark_tied(self, loading_info)
        loading_info.missing_keys |= tied  # transformers 5.3 takes them for read, and then ties nothing

    cls.get_init_context = classmethod(get_init_context)
    cls.mark_tied_weights_as_initialized = mark
    cls._move_missing_keys_from_meta_to_device = move


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    """A constructor that completes the configuration and remembers what it was called with, so that it can be again."""

    @functools.wraps(init)
    def construct(self: PreTrainedModel, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - passed on
        for value in (*args, *kwargs.values()):
            if isinstance(value, PretrainedConfig):
                _complete(value)
        before = None if _ARGUMENTS in self.__dict__ else copy.deepcopy((args, kwargs))
        self.__dict__.setdefault(_ARGUMENTS, before and (*before, torch.get_default_dtype()))
        init(self, *args, **kwargs)

    return construct


def _complete(config: PretrainedConfig) -> None:
    for name, default in CONFIG_DEFAULTS.items():
        if not hasattr(config, name):
            setattr(config, name, copy.copy(default))


@contextlib.contextmanager
def _weights_on_meta() -> Iterator[None]:
    """Puts every parameter on the meta device as soon as it is registered, and initialises none, in this thread."""
    with _building:
        yield from _patched(threading.get_ident())


def _patched(thread: int) -> Iterator[None]:
    register = nn.Module.register_parameter
    init_weights: Callable[[PreTrainedModel], None] = PreTrainedModel.init_weights

    def register_parameter(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(self, name, param)
        if param is not None and threading.get_ident() == thread:
            meta = nn.Parameter(param.detach().to("meta"), requires_grad=param.requires_grad)
            self._parameters[name] = meta

    def skip(self: PreTrainedModel) -> None:
        if threading.get_ident() != thread:
            init_weights(self)

    nn.Module.register_parameter = register_parameter  # type: ignore[method-assign]
    PreTrainedModel.init_weights = skip  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
        PreTrainedModel.init_weights = init_weights  # type: ignore[method-assign]


def check_computed(model: nn.Module, *, name: str) -> set[str]:
    """Proves that a model of foreign code holds what its constructor computes.

    Args:
        model: The model, after loading, before or after its first use.
        name: The model, for messages.

    Returns:
        The names of the buffers that were computed, and not read from a file.

    Raises:
        CheckpointError: A tensor has no values, or values that are not numbers, or others than the constructor
            computes, this time or every time.
    """
    proved: set[str] = set()
    for prefix, part in _outermost(model):
        expected = dict(_computed(_rebuilt(part, name=name)))
        persistent = set(part.state_dict())
        for path, tensor in _computed(part):
            if tensor.is_meta:
                raise _wrong(name, prefix + path, "was left without values")
            if tensor.is_floating_point() and torch.isnan(tensor).any():
                raise _wrong(name, prefix + path, "holds values that are not numbers")
            reference = expected.get(path)
            same = reference is not None and _equal(tensor, reference)
            if same:
                proved.add(prefix + path)
            elif reference is not None and path not in persistent:
                raise _wrong(name, prefix + path, "differs from what its constructor computes a second time")
    return proved


def _outermost(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, PreTrainedModel]]:
    """The outermost models of foreign classes inside a module, each with its name."""
    if isinstance(module, PreTrainedModel) and _ARGUMENTS in module.__dict__:
        yield prefix, module
        return
    for name, child in module.named_children():
        yield from _outermost(child, f"{prefix}{name}.")


def _rebuilt(model: PreTrainedModel, *, name: str) -> PreTrainedModel:
    args, kwargs, dtype = copy.deepcopy(model.__dict__[_ARGUMENTS])
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("cpu"), _weights_on_meta(), torch.no_grad():
            return type(model)(*args, **kwargs)
    except Exception as error:
        msg = f"the code of {name} builds a {type(model).__name__} once, but fails the second time: {error}"
        raise UnsupportedModelError(msg, hint="use a model without code") from error
    finally:
        torch.set_default_dtype(before)


def _computed(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a model that is no parameter: buffers, and tensors in plain attributes, lists and tables."""
    for prefix, module in model.named_modules():
        own = {key: value for key, value in vars(module).items() if key not in _OF_EVERY_MODULE}
        for key, value in (own | own.pop("_buffers")).items():
            yield from _tensors(f"{prefix}.{key}" if prefix else key, value)


def _tensors(path: str, value: object) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, nn.Parameter):
        return
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from _tensors(f"{path}.{index}", entry)
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _tensors(f"{path}.{key}", entry)


def _equal(tensor: Tensor, reference: Tensor) -> bool:
    if tensor.ndim != reference.ndim:
        return False
    # Some tensors grow with the inputs; what was there from the start stays in its place.
    common = tuple(slice(min(sizes)) for sizes in zip(tensor.shape, reference.shape, strict=True))
    return torch.equal(tensor[common], reference[common].to(tensor.device, tensor.dtype))


def _wrong(name: str, path: str, why: str) -> CheckpointError:
    msg = f"{path} of {name}, which the model's code computes, {why}"
    return CheckpointError(msg, hint="use another revision of the model, or a model without code")
