"""Where the files of an OpenVINO language model are: an exported folder, one in a model's folder, or a GGUF file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from langchain_localhf.engines.openvino.gguf import read_metadata
from langchain_localhf.errors import CheckpointError, IncompleteModelError, UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_GRAPH, _WEIGHTS = "openvino_model.xml", "openvino_model.bin"
_SUBFOLDER = "openvino"
# The names that configurations have for the context window.
_WINDOWS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
# Distances between tokens are all that these see; the number in their configuration is what they were trained with.
_RELATIVE_POSITIONS = {"bloom"}
# What `generation_config.json` holds beside settings: transformers' own notes, and a default that means nothing.
_NO_SETTINGS = {"transformers_version", "_from_model_config"}
_MAX_LENGTH_OF_NOBODY = 20


@dataclass(frozen=True)
class ModelFiles:
    """What the files of an OpenVINO language model say. Made by `ModelFiles.find`.

    Attributes:
        model: What openvino-genai opens: the folder of the graph, or a GGUF file.
        folders: Where tokenizer and configuration are, the first one first.
    """

    model: Path
    folders: tuple[Path, ...]

    @classmethod
    def find(cls, place: Path, *, name: str) -> ModelFiles:
        """Finds the parts of the model.

        Args:
            place: A folder, or a GGUF file.
            name: The model's name, for the command that makes what is missing.

        Raises:
            UnsupportedModelError: There is no model for OpenVINO.
            IncompleteModelError: There is the half of one.
        """
        if place.suffix == ".gguf":
            return cls(place, (place.parent,))
        for folder, folders in ((place / _SUBFOLDER, (place / _SUBFOLDER, place)), (place, (place,))):
            if (folder / _GRAPH).is_file():
                files = cls(folder, folders)
                missing = [needed for needed in (_WEIGHTS, "config.json") if files.path(needed) is None]
                if missing:
                    msg = f"{folder} holds {_GRAPH} without {' and '.join(missing)}"
                    raise IncompleteModelError(msg, missing=missing, hint="export or copy the model again")
                return files
        graphs = sorted(place.glob("*.gguf"))
        if len(graphs) == 1:
            return cls(graphs[0], (place,))
        if graphs:
            msg = f"{place} holds {len(graphs)} models: {', '.join(path.name for path in graphs)}"
            raise UnsupportedModelError(msg, hint=f"name one of them: {graphs[0]}")
        if others := sorted(path.name for path in place.glob("openvino_*_model.xml")):
            msg = (
                f"{place} holds a model of several graphs ({', '.join(others)}), which the openvino engine does not run"
            )
            raise UnsupportedModelError(msg, hint='use the model itself, with backend="torch"')
        msg = f"{place} holds no model for OpenVINO: neither {_GRAPH} nor a .gguf file"
        raise UnsupportedModelError(msg, hint=f"localhf compile {name}")

    @property
    def is_gguf(self) -> bool:
        """Whether all there is is one GGUF file."""
        return self.model.suffix == ".gguf"

    def path(self, name: str) -> Path | None:
        """The file of that name, if there is one."""
        return next((path for folder in self.folders if (path := folder / name).is_file()), None)

    def json(self, name: str) -> dict[str, Any]:
        """What that file holds; empty if there is none.

        Raises:
            CheckpointError: It is no JSON object.
        """
        path = None if self.is_gguf else self.path(name)
        if path is None:
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            msg = f"{path} cannot be read: {error}"
            raise CheckpointError(msg, hint="export or copy the model again") from error
        if not isinstance(content, dict):
            msg = f"{path} should hold a JSON object"
            raise CheckpointError(msg, hint="export or copy the model again")
        return content

    @cached_property
    def gguf(self) -> Mapping[str, Any]:
        """The metadata of the GGUF file; empty for a folder.

        Raises:
            CheckpointError: It is none.
        """
        return read_metadata(self.model) if self.is_gguf else {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The `config.json`; of a GGUF file, what says the same."""
        if not self.is_gguf:
            return self.json("config.json")
        kind = str(self.gguf.get("general.architecture", ""))
        return {
            "model_type": kind,
            "max_position_embeddings": self.gguf.get(f"{kind}.context_length"),
            "vocab_size": len(self.gguf.get("tokenizer.ggml.tokens", ())) or None,
            "bos_token_id": self.gguf.get("tokenizer.ggml.bos_token_id"),
            "eos_token_id": self.gguf.get("tokenizer.ggml.eos_token_id"),
        }

    @cached_property
    def generation_config(self) -> dict[str, Any]:
        """The `generation_config.json`; empty if there is none."""
        return self.json("generation_config.json")

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        """The `tokenizer_config.json`; empty if there is none."""
        return self.json("tokenizer_config.json")

    @cached_property
    def _text_config(self) -> dict[str, Any]:
        nested = self.config.get("text_config")
        return nested if isinstance(nested, dict) else self.config

    @property
    def model_type(self) -> str:
        """The architecture, in the checkpoint's own word."""
        return str(self.config.get("model_type", "unknown"))

    @property
    def context_window(self) -> int | None:
        """How many tokens the model can look at; None if it sees distances only, or does not say."""
        named = (self._text_config.get(name) for name in _WINDOWS)
        window = next((size for size in named if isinstance(size, int) and size > 0), None)
        return None if self.model_type in _RELATIVE_POSITIONS else window

    @property
    def vocabulary_size(self) -> int | None:
        """How many tokens the model has weights for; None if nothing says."""
        size = self._text_config.get("vocab_size")
        return size if isinstance(size, int) else None

    @property
    def end_ids(self) -> tuple[int, ...] | None:
        """The tokens that end an answer; None if only the tokenizer knows."""
        for source in (self.generation_config, self._text_config):
            if (ends := source.get("eos_token_id")) is not None:
                return tuple(ends) if isinstance(ends, list) else (int(ends),)
        return None

    @property
    def first_id(self) -> int | None:
        """The token that begins a text; None if only the tokenizer knows."""
        named = (source.get("bos_token_id") for source in (self.generation_config, self._text_config))
        return next((int(first) for first in named if isinstance(first, int)), None)

    @property
    def defaults(self) -> dict[str, Any]:
        """The settings for generating that the checkpoint brings."""
        return {
            name: value
            for name, value in self.generation_config.items()
            if value is not None
            and name not in _NO_SETTINGS
            and not name.endswith("token_id")
            and (name, value) != ("max_length", _MAX_LENGTH_OF_NOBODY)
        }

    @cached_property
    def chat_template(self) -> str | None:
        """The template that writes conversations as prompts."""
        if self.is_gguf:
            template = self.gguf.get("tokenizer.chat_template")
            return str(template) if template else None
        if (path := self.path("chat_template.jinja")) is not None:
            return path.read_text(encoding="utf-8")
        template = self.json("chat_template.json").get("chat_template") or self.tokenizer_config.get("chat_template")
        if isinstance(template, list):  # several, by name
            template = _named(template).get("default")
        return template if isinstance(template, str) else None


def _named(templates: Sequence[Any]) -> dict[str, Any]:
    return {str(one.get("name")): one.get("template") for one in templates if isinstance(one, dict)}
