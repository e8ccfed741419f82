"""The configuration files of a model: where a loader looks for settings, and for names of classes to import."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from langchain_localhf.checkpoint.modules import read_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# Every file in which a loader looks for classes to import.
_CONFIGURATIONS = (
    "config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json",
    "image_processor_config.json", "video_preprocessor_config.json", "feature_extractor_config.json",
    "generation_config.json",
)  # fmt: skip
_SENTENCE_CONFIGURATION = re.compile(r"sentence_[\w-]+_config\.json")


def configurations(folder: Path, transformer_folders: Iterable[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The configuration files of a model and their content, with those of its parts; what is not there is left out.

    Raises:
        CheckpointError: A file is damaged.
    """
    for place in dict.fromkeys((folder, *transformer_folders)):
        names = {*_CONFIGURATIONS, *(path.name for path in place.glob("sentence_*_config.json"))}
        for name in sorted(names):
            path = place / name
            if path.is_file() and (name in _CONFIGURATIONS or _SENTENCE_CONFIGURATION.fullmatch(name)):
                yield path, read_json(path)


def texts_in(value: object) -> Iterator[str]:
    """The strings in a value that may be one, a list of some (slow, fast), or a table of some (by backend)."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from texts_in(entry)


def walk(content: object) -> Iterator[tuple[str, Any]]:
    """Every key and value in nested objects and arrays, from the outside in."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield str(key), value
            yield from walk(value)
    elif isinstance(content, list):
        for value in content:
            yield from walk(value)
