"""What a model's files may not do, with or without trust: lead the loader to something else than the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_localhf.checkpoint.configurations import configurations, texts_in, walk
from langchain_localhf.errors import UnsafeModelError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Settings whose value can be the repository of a compute kernel, which would be downloaded and run.
_IMPLEMENTATIONS = {
    "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "experts_implementation", "_experts_implementation", "_experts_implementation_internal",
}  # fmt: skip
_KERNEL_SWITCHES = {"use_kernels", "kernel_config", "allow_all_kernels"}
# What a file could tell the loader in the user's place: to read a pickle, other weights, or another repository.
_LOADING_SETTINGS = {
    "weights_only", "use_safetensors", "gguf_file", "variant", "subfolder", "state_dict", "adapter_kwargs", "config",
    "key_mapping", "ignore_mismatched_sizes", "revision", "code_revision", "cache_dir", "from_tf", "from_flax",
}  # fmt: skip
_LOADING_ARGUMENTS = (
    "model_args",
    "model_kwargs",
    "tokenizer_args",
    "processor_kwargs",
    "config_args",
    "config_kwargs",
)


def refuse_redirections(folder: Path, transformer_folders: Iterable[Path]) -> None:
    """Refuses a model whose files make the loader run or read something else than the model.

    Trust in the model's code does not cover these. A compute kernel comes from another repository, is code, and would
    be fetched at run time. Settings of the loader, which `sentence_bert_config.json` can hold, can make it read a
    pickle that lies beside the safetensors file, or weights that nobody looked at.

    Raises:
        UnsafeModelError: A file does so.
    """
    for path, content in configurations(folder, transformer_folders):
        for key, value in walk(content):
            if (key in _IMPLEMENTATIONS and _names_repository(value)) or (key in _KERNEL_SWITCHES and value):
                msg = f"{path} asks for compute kernels, which are code of another repository: {key} = {value!r}"
                raise UnsafeModelError(msg, hint=f"remove {key} from that file if you want the model without them")
        arguments = [content[key] for key in _LOADING_ARGUMENTS if isinstance(content.get(key), dict)]
        redirecting = {key for settings in arguments for key in settings} & _LOADING_SETTINGS
        if content.get("transformers_weights") is not None:
            redirecting.add("transformers_weights")
        if redirecting:
            msg = f"{path} changes which files are loaded, and how: {', '.join(sorted(redirecting))}"
            raise UnsafeModelError(msg, hint="remove that from the file if you want the model without it")


def _names_repository(value: object) -> bool:
    return any("/" in text for text in texts_in(value))
