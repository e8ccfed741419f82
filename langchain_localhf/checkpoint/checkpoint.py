"""A checkpoint as its files describe it: modules, pooling, prompts, tokenizer, code, weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from langchain_localhf.checkpoint.weights import TensorHeader, read_headers
from langchain_localhf.errors import (
    CheckpointError,
    IncompleteModelError,
    UnsafeModelError,
    UnsupportedModelError,
)
from langchain_localhf.store import files as model_files

POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

# The names that pooling had before sentence-transformers 6, in the order in which several are concatenated.
_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_NEED_CONFIG = {"Pooling", "Dense", "LayerNorm", "CNN", "LSTM", "WeightedLayerPooling"}
_TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model",
    "spm.model", "vocab.model", "tekken.json",
)  # fmt: skip
_SETTINGS_FILES = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json")
_PULL_AGAIN = "pull or copy the model again"


@dataclass(frozen=True)
class Module:
    """One entry of `modules.json`.

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


@dataclass(frozen=True)
class Checkpoint:
    """What the files of one model say. Made by `Checkpoint.read`; reading it never runs anything.

    Attributes:
        folder: The model's folder.
        modules: The entries of `modules.json`, in order; empty for a plain transformer checkpoint.
        settings: `config_sentence_transformers.json`; empty if there is none.
    """

    folder: Path
    modules: tuple[Module, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Checkpoint:
        """Reads the descriptions in `folder`.

        Raises:
            IncompleteModelError: There is neither `modules.json` nor `config.json`.
            CheckpointError: One of them is no valid JSON, or not of the expected form.
        """
        has_modules = (folder / "modules.json").is_file()
        if not has_modules and not (folder / "config.json").is_file():
            msg = f"{folder} holds no model: neither modules.json nor config.json is there"
            raise IncompleteModelError(msg, missing=("config.json",), hint="check that this is the model's own folder")
        modules = _read_modules(folder / "modules.json") if has_modules else ()
        return cls(folder, modules, _read_json(folder / "config_sentence_transformers.json"))

    @cached_property
    def files(self) -> list[str]:
        """Every file of the model, sorted, relative to its folder."""
        return model_files.files_in(self.folder)

    @cached_property
    def transformer_folder(self) -> Path | None:
        """The folder of the transformer's config, weights and tokenizer; None if the model has no transformer."""
        if not self.modules:
            return self.folder
        return next((self.folder / module.path for module in self.modules if module.class_name == "Transformer"), None)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The transformer's `config.json`; empty if there is none."""
        return _read_json(self.transformer_folder / "config.json") if self.transformer_folder else {}

    @cached_property
    def code_references(self) -> dict[str, str]:
        """The classes in `auto_map` that the repository brings its own code for, by the auto class that they replace."""
        references = self.config.get("auto_map") or {}
        return {name: str(value) for name, value in references.items()} if isinstance(references, dict) else {}

    @cached_property
    def tensors(self) -> dict[str, TensorHeader]:
        """The tensors that the transformer's weight files hold, by name."""
        return read_headers(self.transformer_folder) if self.transformer_folder else {}

    @property
    def prompts(self) -> dict[str, str]:
        """The prompts that the model was saved with, by name."""
        return {name: text for name, text in (self.settings.get("prompts") or {}).items() if text is not None}

    @cached_property
    def pooling(self) -> tuple[str, ...]:
        """How token vectors become one vector; empty if nothing says, or if the model does it another way."""
        for module in self.modules:
            if module.class_name == "Pooling":
                config = _read_json(self.folder / module.path / "config.json")
                stated = config.get("pooling_mode") or [
                    mode for key, mode in _LEGACY_POOLING.items() if config.get(key)
                ]
                return (stated,) if isinstance(stated, str) else tuple(stated)
        return ()

    @property
    def normalizes(self) -> bool:
        """Whether the model's last module scales every vector to length 1."""
        return bool(self.modules) and self.modules[-1].class_name == "Normalize"

    def require_complete(self, *, trust_remote_code: bool = False) -> None:
        """Checks that these files make a complete, safe model, of whatever kind.

        Args:
            trust_remote_code: Whether the user allows code from the repository to run.

        Raises:
            UnsafeModelError: Pickled weights, or code without trust.
            IncompleteModelError: Files are missing.
            CheckpointError: A file is damaged.
            UnsupportedModelError: The weights are those of an adapter only.
        """
        self._refuse_pickle()
        self._refuse_foreign_code(trust_remote_code=trust_remote_code)
        self._require_module_files()
        if self.transformer_folder is not None:
            self._require_transformer_files(self.transformer_folder)

    def require_encoder(self, *, pooling: str | None = None, trust_remote_code: bool = False) -> None:
        """Checks that these files make a complete, safe embedding model.

        Args:
            pooling: The pooling that the user states for a plain transformer checkpoint.
            trust_remote_code: Whether the user allows code from the repository to run.

        Raises:
            IncompleteModelError: Files are missing, or nothing states the pooling.
            UnsafeModelError: Pickled weights, or code without trust.
            CheckpointError: A file is damaged.
            UnsupportedModelError: This is not an embedding model, or its pooling is not known.
        """
        self._require_kind(pooling)
        self.require_complete(trust_remote_code=trust_remote_code)

    def _refuse_pickle(self) -> None:
        pickled = model_files.pickled_only(self.files)
        if pickled:
            msg = (
                f"{self.folder} holds its weights as pickle ({', '.join(pickled)}), which can run code when it is read"
            )
            hint = "use a revision of the model with safetensors weights, or convert them once where you trust the file"
            raise UnsafeModelError(msg, hint=hint)

    def _refuse_foreign_code(self, *, trust_remote_code: bool) -> None:
        foreign = [module.class_reference for module in self.modules if module.is_foreign]
        if foreign and not trust_remote_code:
            msg = f"{self.folder} would run code from its own repository: {', '.join(foreign)} (named in modules.json)"
            hint = 'read that code; if you trust it, pass model_kwargs={"trust_remote_code": True}'
            raise UnsafeModelError(msg, hint=hint)

    def _require_kind(self, pooling: str | None) -> None:
        kind = self.settings.get("model_type", "SentenceTransformer")
        if kind != "SentenceTransformer":
            msg = f"{self.folder} was saved as a {kind}, not as a SentenceTransformer"
            raise UnsupportedModelError(msg, hint="use an embedding model here")
        if pooling is not None and pooling not in POOLING_MODES:
            msg = f"unknown pooling {pooling!r}"
            raise UnsupportedModelError(msg, hint=f"use one of {', '.join(POOLING_MODES)}")
        if pooling is not None and self.modules:
            msg = f"{self.folder} states its own pooling in modules.json; pooling={pooling!r} would contradict it"
            raise UnsupportedModelError(msg, hint="leave pooling out")
        if pooling is None and not self.modules:
            msg = (
                f"{self.folder} has no modules.json, so nothing says how its token vectors become one vector; "
                "sentence-transformers would silently take the mean"
            )
            hint = 'pass pooling="mean" (or "cls", "lasttoken") as the model card says; if it has a modules.json, pull it again'
            raise IncompleteModelError(msg, missing=("modules.json",), hint=hint)

    def _require_module_files(self) -> None:
        configs = [
            f"{module.path}/config.json" if module.path else "config.json"
            for module in self.modules
            if module.class_name in _NEED_CONFIG
        ]
        missing = [path for path in configs if not (self.folder / path).is_file()]
        if missing:
            msg = f"files that modules.json asks for are missing in {self.folder}: {', '.join(missing)}"
            raise IncompleteModelError(msg, missing=missing, hint=_PULL_AGAIN)
        unstated = [module for module in self.modules if module.class_name == "Pooling" and not self.pooling]
        if unstated:
            msg = f"{self.folder / unstated[0].path / 'config.json'} names no pooling mode"
            raise IncompleteModelError(msg, missing=(f"{unstated[0].path}/config.json",), hint=_PULL_AGAIN)

    def _require_transformer_files(self, folder: Path) -> None:
        if (folder / "adapter_config.json").is_file():
            msg = f"{folder} is an adapter, which needs the weights of another repository"
            raise UnsupportedModelError(
                msg, hint="merge it into its base model with peft's merge_and_unload(), and save"
            )
        if not (folder / "config.json").is_file():
            msg = f"config.json is missing in {folder}"
            raise IncompleteModelError(msg, missing=("config.json",), hint=_PULL_AGAIN)
        if not self.tensors:
            msg = f"there are no weights in {folder}: neither model.safetensors nor model.safetensors.index.json"
            raise IncompleteModelError(msg, missing=("model.safetensors",), hint=_PULL_AGAIN)
        if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
            msg = (
                f"there are no tokenizer files in {folder}; transformers would load a tokenizer that knows no word "
                "and every text would get nearly the same vector"
            )
            raise IncompleteModelError(msg, missing=("tokenizer.json",), hint=_PULL_AGAIN)
        tokenizer = folder / "tokenizer.json"
        if tokenizer.is_file():
            _read_json(tokenizer)


def _read_modules(path: Path) -> tuple[Module, ...]:
    entries = _read_json(path, expected=list)
    try:
        modules = tuple(Module(str(entry["type"]), str(entry["path"])) for entry in entries)
    except (KeyError, TypeError) as error:
        msg = f"{path} is damaged: every module needs a type and a path"
        raise CheckpointError(msg, hint=_PULL_AGAIN) from error
    if not modules:
        msg = f"{path} lists no modules"
        raise CheckpointError(msg, hint=_PULL_AGAIN)
    outside = [module.path for module in modules if Path(module.path).is_absolute() or ".." in Path(module.path).parts]
    if outside:
        msg = f"{path} points outside the model's folder: {', '.join(outside)}"
        raise UnsafeModelError(msg, hint="do not use this model")
    return modules


def _read_json(path: Path, expected: type = dict) -> Any:  # noqa: ANN401 - JSON has no narrower type
    """The content of a JSON file; an empty container if there is no such file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return expected()
    except ValueError as error:
        msg = f"{path} is no valid JSON: {error}"
        raise CheckpointError(msg, hint=_PULL_AGAIN) from error
    if not isinstance(content, expected):
        msg = f"{path} should hold a JSON {'object' if expected is dict else 'array'}"
        raise CheckpointError(msg, hint=_PULL_AGAIN)
    return content
