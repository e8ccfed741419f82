"""Which engine runs an embedding model: the compiled graph wherever it can do what is asked, else torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_localhf.errors import InputError, LocalHFError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from langchain_localhf.store.manifest import Manifest

# What can be said about loading a model that is compiled already. Whatever else there is went into the graph.
_OF_A_GRAPH = {
    "backend", "device", "ov_config", "model_kwargs", "prompts", "default_prompt_name", "truncate_dim",
    "trust_remote_code", "revision", "cache_folder", "local_files_only", "token", "use_auth_token",
    "similarity_fn_name", "model_card_data",
}  # fmt: skip
_NESTED = {"ov_config", "device"}
_CPU = {None, "cpu", "CPU"}


def choose_encoder(
    backend: str,
    *,
    name: str,
    manifest: Manifest | None,
    pooling: str | None,
    model_kwargs: Mapping[str, Any],
    installed: Callable[[str], bool],
) -> str:
    """The engine for an embedding model: `torch`, `openvino`, or whatever else the user names.

    Args:
        backend: What the user asks for; `auto` leaves it to the model and the settings.
        name: The model's name, for messages.
        manifest: Its manifest, which tells whether it is compiled.
        pooling: The pooling that the user states.
        model_kwargs: What the user says about loading; `backend` in it means the same as the argument.
        installed: Tells whether an engine is installed.

    Raises:
        InputError: Two engines are asked for, or a setting that a graph does not have.
        UnsupportedModelError: A graph is asked for, and there is none.
    """
    asked = model_kwargs.get("backend")
    if asked is not None and backend not in ("auto", asked):
        msg = f"backend={backend!r} and model_kwargs={{'backend': {asked!r}}} contradict each other"
        raise InputError(msg, hint="give one of them")
    backend = asked or backend
    if backend == "auto" and "ov_config" in _nested_and_own(model_kwargs):
        backend = "openvino"
    if backend not in ("auto", "openvino"):
        return backend
    obstacle = _obstacle(name, manifest, pooling, model_kwargs)
    if obstacle is not None:
        if backend == "openvino" or _has_no_weights(manifest) or (installed("openvino") and not installed("torch")):
            raise obstacle
        return "torch"
    if _has_no_weights(manifest):
        return "openvino"
    is_wanted = backend == "openvino" or (installed("openvino") and _nested_and_own(model_kwargs).get("device") in _CPU)
    return "openvino" if is_wanted else "torch"


def _has_no_weights(manifest: Manifest | None) -> bool:
    return manifest is not None and manifest.packed


def _nested_and_own(model_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    nested = {key: value for key, value in (model_kwargs.get("model_kwargs") or {}).items() if key in _NESTED}
    return nested | dict(model_kwargs)


def _obstacle(
    name: str, manifest: Manifest | None, pooling: str | None, model_kwargs: Mapping[str, Any]
) -> LocalHFError | None:
    """Why there is no graph that does what is asked; None if there is one."""
    if manifest is None:
        msg = f"{name} is not compiled: it was neither pulled nor added, so there is no place for a graph"
        return UnsupportedModelError(msg, hint=f"localhf add PATH --as {name}, then localhf compile {name}")
    if manifest.compiled is None or manifest.compiled.fingerprint is None:
        return UnsupportedModelError(f"{name} is not compiled", hint=f"localhf compile {name}")
    if pooling is not None:
        msg = f"{name} was compiled with its own pooling, so pooling={pooling!r} changes nothing"
        return InputError(msg, hint="leave pooling out")
    unknown = sorted(model_kwargs.keys() - _OF_A_GRAPH) + sorted(
        (model_kwargs.get("model_kwargs") or {}).keys() - _NESTED
    )
    if unknown:
        msg = f"a model that is compiled already cannot be loaded with {', '.join(unknown)}"
        return InputError(msg, hint='leave it out, or use backend="torch"')
    return None
