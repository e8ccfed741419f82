"""A checkpoint as its files describe it: modules, pooling, prompts, tokenizer, code, weights."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_localhf.checkpoint import code as checkpoint_code
from langchain_localhf.checkpoint import completeness, kinds
from langchain_localhf.checkpoint.modules import (
    PULL_AGAIN,
    Module,
    read_json,
    read_modules,
    read_pooling,
    with_routes,
)
from langchain_localhf.checkpoint.redirections import refuse_redirections
from langchain_localhf.checkpoint.weights import TensorHeader, read_headers
from langchain_localhf.errors import CheckpointError, IncompleteModelError, UnsafeModelError
from langchain_localhf.store import files as model_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from langchain_localhf.checkpoint.code import CodeReference

# What transformers loads a model as, for each task of a language model.
AUTO_MODELS = {
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "image-text-to-text": "AutoModelForImageTextToText",
    "summarization": "AutoModelForSeq2SeqLM",
    "translation": "AutoModelForSeq2SeqLM",
}
_ONE_LANGUAGE_TO_ANOTHER = re.compile(r"translation_\w+_to_\w+")


def auto_model_for(task: str) -> str | None:
    """What transformers loads a model as for a task, which may name two languages; None for a task without text."""
    return AUTO_MODELS.get("translation" if _ONE_LANGUAGE_TO_ANOTHER.fullmatch(task or "") else task)


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
        modules = read_modules(folder) if has_modules else ()
        settings = read_json(folder / "config_sentence_transformers.json")
        prompts = settings.get("prompts") or {}
        if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
            msg = f"{folder / 'config_sentence_transformers.json'} should hold prompts as texts by name"
            raise CheckpointError(msg, hint=PULL_AGAIN)
        return cls(folder, modules, settings)

    @cached_property
    def files(self) -> list[str]:
        """Every file of the model, sorted, relative to its folder."""
        return model_files.files_in(self.folder)

    @cached_property
    def parts(self) -> tuple[Module, ...]:
        """The modules, and those that a router among them leads to."""
        return with_routes(self.folder, self.modules)

    @cached_property
    def transformer_folders(self) -> list[Path]:
        """The folders with a transformer's config, weights and tokenizer; empty for a model without a transformer."""
        if not self.modules:
            return [self.folder]
        return [self.folder / part.path for part in self.parts if part.is_transformer]

    @cached_property
    def config(self) -> dict[str, Any]:
        """The `config.json` of the first transformer; empty if there is none."""
        return read_json(self.transformer_folders[0] / "config.json") if self.transformer_folders else {}

    @cached_property
    def code(self) -> tuple[CodeReference, ...]:
        """Every class outside the libraries that the files name, for whatever task.

        Raises:
            UnsafeModelError: A file names code in a form that cannot be right.
        """
        return checkpoint_code.read_references(self.folder, self.transformer_folders, self.parts)

    @cached_property
    def image_folder(self) -> Path | None:
        """The folder of the transformer that reads images, too; None for a model that reads texts only."""
        return kinds.image_folder(self)

    @property
    def is_encoder(self) -> bool:
        """Whether the model makes vectors, and states itself how."""
        return kinds.is_encoder(self)

    @property
    def is_cross_encoder(self) -> bool:
        """Whether the model scores pairs of texts."""
        return kinds.is_cross_encoder(self)

    @property
    def auto_model(self) -> str:
        """What transformers loads the model as, if it is no language model."""
        return kinds.auto_model(self)

    def foreign_code(self, auto_model: str | None = None) -> tuple[CodeReference, ...]:
        """The classes outside the libraries that the model needs when it is loaded as `auto_model`."""
        needed = tuple(reference for reference in self.code if reference.is_for(auto_model or self.auto_model))
        return () if checkpoint_code.taken_over(needed, self.config) else needed

    @cached_property
    def tensors(self) -> dict[str, TensorHeader]:
        """The tensors that the weight files of the first transformer hold, by name."""
        return read_headers(self.transformer_folders[0]) if self.transformer_folders else {}

    @property
    def prompts(self) -> dict[str, str]:
        """The prompts that the model was saved with, by name."""
        return {name: text for name, text in (self.settings.get("prompts") or {}).items() if text is not None}

    @cached_property
    def pooling(self) -> tuple[str, ...]:
        """How token vectors become one vector; empty if nothing says, or if the model does it another way."""
        configurations = [part.configuration for part in self.parts if part.class_name == "Pooling"]
        return read_pooling(self.folder / configurations[0]) if configurations and configurations[0] else ()

    @property
    def normalizes(self) -> bool:
        """Whether the model's last module scales every vector to length 1."""
        return bool(self.modules) and self.modules[-1].class_name == "Normalize"

    @cached_property
    def activations(self) -> dict[str, str]:
        """The activation functions behind the transformer, by the file that names them."""
        return kinds.activations(self)

    @property
    def foreign_activations(self) -> dict[str, str]:
        """Those of them that are not torch's own."""
        return {path: name for path, name in self.activations.items() if not name.startswith("torch.nn.")}

    def require_trust(
        self,
        *,
        trust_remote_code: bool = False,
        auto_model: str | None = None,
        name: str | None = None,
        commits: Mapping[str, str] | None = None,
        bring: str | None = None,
    ) -> None:
        """Checks that these files run nothing that the user does not trust. Weights and tokenizers are not looked at.

        Args:
            trust_remote_code: Whether the user allows code from the repository to run.
            auto_model: What the model is to be loaded as, if not as what it is.
            name: The model's repository, for messages; its folder if None.
            commits: The commits of the repositories with its code, for messages; its own is `""`.
            bring: The command that brings the model here with its code, as `code.refusal` takes it.

        Raises:
            UnsafeModelError: They do.
            CheckpointError: A file is damaged.
        """
        refuse_redirections(self.folder, self.transformer_folders)
        needed = self.foreign_code(auto_model)  # also with trust: a form that cannot be right is not trusted
        if needed and not trust_remote_code:
            raise checkpoint_code.refusal(self.folder, needed, name=name, commits=commits, bring=bring)
        if self.foreign_activations and not trust_remote_code:
            path, activation = next(iter(self.foreign_activations.items()))
            msg = (
                f"{self.folder / path} names an activation function that is not torch's own: {activation}; "
                "without trust, sentence-transformers would silently take another one"
            )
            command = f"localhf pull --trust-remote-code {name}" if bring is None and name else bring
            raise UnsafeModelError(msg, hint=checkpoint_code.trust_hint(command))

    def require_complete(self) -> None:
        """Checks that these files make a complete model, of whatever kind. Whose code they run is not looked at.

        Raises:
            UnsafeModelError: The weights are pickled.
            IncompleteModelError: Files are missing.
            CheckpointError: A file is damaged.
            UnsupportedModelError: The weights are those of an adapter only.
        """
        self._refuse_pickle()
        completeness.require_module_files(self.folder, self.parts)
        for folder in self.transformer_folders:
            completeness.require_transformer_files(folder, reads_images=folder == self.image_folder)

    def require_encoder(self, *, pooling: str | None = None, weights: bool = True) -> None:
        """Checks that these files make a complete embedding model. Whose code they run is not looked at.

        Args:
            pooling: The pooling that the user states for a plain transformer checkpoint.
            weights: Whether the model's own weights are to run, and not what was compiled from them.

        Raises:
            IncompleteModelError: Files are missing, or nothing states the pooling.
            UnsafeModelError: The weights are pickled.
            CheckpointError: A file is damaged.
            UnsupportedModelError: This is not an embedding model, or its pooling is not known.
        """
        kinds.require_encoder(self, pooling)
        if weights:
            self.require_complete()

    def require_scorer(self, *, weights: bool = True) -> None:
        """Checks that these files make a complete cross-encoder. Whose code they run is not looked at.

        Args:
            weights: Whether the model's own weights are to run, and not what was compiled from them.

        Raises:
            IncompleteModelError: Files are missing.
            UnsafeModelError: The weights are pickled.
            CheckpointError: A file is damaged.
            UnsupportedModelError: This is no cross-encoder.
        """
        kinds.require_scorer(self)
        if weights:
            self.require_complete()

    def require_language_model(self) -> None:
        """Checks that these files make a complete language model. Whose code they run is not looked at.

        Raises:
            IncompleteModelError: Files are missing.
            UnsafeModelError: The weights are pickled.
            CheckpointError: A file is damaged.
            UnsupportedModelError: This is no language model, or the weights are those of an adapter only.
        """
        kinds.require_language_model(self)
        self.require_complete()

    def _refuse_pickle(self) -> None:
        pickled = model_files.pickled_only(self.files)
        if pickled:
            msg = (
                f"{self.folder} holds its weights as pickle ({', '.join(pickled)}), which can run code when it is read"
            )
            hint = "use a revision of the model with safetensors weights, or convert them once where you trust the file"
            raise UnsafeModelError(msg, hint=hint)
