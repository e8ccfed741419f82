"""Texts to vectors or scores with a compiled graph: tokens in, numbers out, from any number of threads at once."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm  # type: ignore[import-untyped]

from langchain_localhf.engines.batching import batches
from langchain_localhf.engines.openvino.program import Program, Target
from langchain_localhf.engines.openvino.settings import GraphSettings, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Encoding

TOKENIZER_NAME = "tokenizer.json"
_LIBRARIES = ("openvino", "tokenizers", "numpy")
# So many texts are tokenized at a time: tokens of a whole corpus need more memory than its vectors.
_TOKENIZED_TOGETHER = 4096

Text = str | tuple[str, str]


class Graph:
    """A graph in a folder, built for a device. Safe to use from many threads at once.

    Args:
        folder: The folder with the graph, its tokenizer and its settings.
        model_kwargs: What the user said about loading, as `Target.of` reads it.
        precision: Another precision than the graph's own settings say.

    Raises:
        CheckpointError: The files are damaged.
        DeviceUnavailableError: There is no such device.
        InputError: OpenVINO does not know a setting, or not this value of it.
    """

    def __init__(
        self, folder: Path, *, model_kwargs: Mapping[str, Any] | None = None, precision: str | None = None
    ) -> None:
        self.settings = GraphSettings.read(folder)
        self.target = Target.of(self.settings, model_kwargs or {}, precision=precision)
        with ThreadPoolExecutor(1) as beside:  # OpenVINO leaves a core idle
            tokenizer = beside.submit(_tokenizer, folder / TOKENIZER_NAME)
            self._programs = {
                route: Program(folder / f"{route}.xml", self.target) for route in self.settings.all_routes
            }
            self._tokenizer = tokenizer.result()
        self.dimension = self._programs["model"].dimension
        self.versions = {library: version(library) for library in _LIBRARIES}

    def run(
        self, texts: Sequence[Text], *, route: str = "model", max_rows: int | None = None, show_progress: bool = False
    ) -> NDArray[np.float32]:
        """What the graph gives for texts, or for pairs of texts.

        Args:
            texts: At least one.
            route: The kind of the texts; it matters only where that has a graph of its own.
            max_rows: How many texts run together at most; None for as many as pay.
            show_progress: Whether to show a progress bar.

        Returns:
            Shape: `(len(texts), dimension)`, in the order of the texts.
        """
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        program = self._programs.get(route) or self._programs["model"]
        with tqdm(total=len(texts), desc="Embedding", unit=" texts", disable=not show_progress) as bar:
            for start, encodings in self._tokenized(texts, self._tokenizer):
                rows = vectors[start : start + len(encodings)]
                for done in program.run(self._batches(encodings, max_rows), rows):
                    bar.update(done)
        return vectors

    def count_tokens(self, texts: Sequence[Text]) -> list[int]:
        """How many tokens each text has, with the special ones; not every one may be read."""
        parts = self._tokenized(texts, self._counter)
        return [len(encoding) for _, encodings in parts for encoding in encodings]

    def inputs(self, texts: Sequence[Text]) -> dict[str, NDArray[np.int64]]:
        """Texts as one batch of the graph. Shape of an array: `(len(texts), tokens of the longest)`."""
        return self._inputs(self._tokenizer.encode_batch_fast(list(texts)))

    @cached_property
    def _counter(self) -> Tokenizer:
        """The tokenizer without a limit: whether it truncates is a state of the tokenizer itself."""
        copy = Tokenizer.from_str(self._tokenizer.to_str())
        copy.no_truncation()
        return copy

    @staticmethod
    def _tokenized(texts: Sequence[Text], tokenizer: Tokenizer) -> Iterator[tuple[int, list[Encoding]]]:
        """The texts part by part, each part with the place where it begins."""
        for start in range(0, len(texts), _TOKENIZED_TOGETHER):
            yield start, tokenizer.encode_batch_fast(list(texts[start : start + _TOKENIZED_TOGETHER]))

    def _batches(
        self, encodings: Sequence[Encoding], max_rows: int | None
    ) -> Iterator[tuple[list[int], dict[str, NDArray[np.int64]]]]:
        counts = [self.settings.padded_to or len(encoding) for encoding in encodings]
        limits = {} if max_rows is None else {"token_budget": sys.maxsize, "max_rows": max_rows}
        for batch in batches(counts, **limits):
            yield batch, self._inputs([encodings[index] for index in batch])

    def _inputs(self, encodings: Sequence[Encoding]) -> dict[str, NDArray[np.int64]]:
        length = max([self.settings.padded_to or 1, *map(len, encodings)])
        fillings = {"input_ids": self.settings.pad_token_id, "token_type_ids": self.settings.pad_token_type_id}
        inputs = {
            name: np.full((len(encodings), length), fillings.get(name, 0), dtype=np.int64)
            for name in self.settings.inputs
        }
        for row, encoding in enumerate(encodings):
            count = len(encoding)
            place = slice(length - count, length) if self.settings.padding_side == "left" else slice(count)
            values: dict[str, Any] = {"input_ids": encoding.ids, "token_type_ids": encoding.type_ids}
            for name in self.settings.inputs:
                inputs[name][row, place] = values.get(name, 1)  # 1 in the mask
        return inputs


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises nothing more special
        raise unreadable(path, error) from error
