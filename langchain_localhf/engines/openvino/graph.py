"""A compiled graph: tokens in, vectors or scores out, from any number of threads at once."""

from __future__ import annotations

import contextlib
import queue
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from tokenizers import Tokenizer
from tqdm import tqdm  # type: ignore[import-untyped]

from langchain_localhf.engines.batching import batches
from langchain_localhf.engines.openvino import prebuilt, runtime
from langchain_localhf.engines.openvino.devices import check_device, check_settings, device_name, reason
from langchain_localhf.errors import CheckpointError, InputError
from langchain_localhf.store.plain_data import PlainData

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import openvino as ov
    from numpy.typing import NDArray
    from tokenizers import Encoding

SETTINGS_NAME = "graph.json"
TOKENIZER_NAME = "tokenizer.json"
_LIBRARIES = ("openvino", "tokenizers", "numpy")
# So many texts are tokenized at a time: tokens of a whole corpus need more memory than its vectors.
_TOKENIZED_TOGETHER = 4096
# What a request waits for beside the one that runs: the next batch is ready when the processor is.
_SPARE_REQUESTS = 1

Text = str | tuple[str, str]


class GraphSettings(PlainData):
    """How to run a graph; `graph.json` beside it.

    Attributes:
        format: The version of this format.
        inputs: The names of its inputs, in their order; each takes whole numbers. Shape: `(texts, tokens)`.
        precision: The precision to calculate in; `auto` is bf16 on a processor that has it, else f32.
        max_tokens: How many tokens of a text are read, as its tokenizer knows, too; None if there is no limit.
        padding_side: Where shorter texts of a batch are filled up.
        pad_token_id: With what.
        pad_token_type_id: With what among the token types.
        built_for: The kind of machine that the programs beside the graphs were made for; None if there are none.
        routes: The kinds of text that have a graph of their own, `<kind>.xml`; all others go through `model.xml`.
    """

    format: Literal[1] = 1
    inputs: tuple[str, ...]
    precision: Literal["auto", "f32", "bf16", "int8"] = "f32"
    max_tokens: int | None
    padding_side: Literal["left", "right"] = "right"
    pad_token_id: int = 0
    pad_token_type_id: int = 0
    built_for: str | None = None
    routes: tuple[str, ...] = ()

    @property
    def all_routes(self) -> tuple[str, ...]:
        """The names of all graphs."""
        return ("model", *self.routes)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The settings of the graph in a folder.

        Raises:
            CheckpointError: They are damaged.
        """
        try:
            return cls.model_validate_json((folder / SETTINGS_NAME).read_bytes())
        except (OSError, ValueError) as error:
            raise _unreadable(folder / SETTINGS_NAME, error) from error

    def changed(self, folder: Path, **changes: object) -> Self:
        """The settings with some changed, which is written to the folder, too."""
        new = type(self).model_validate(self.model_dump() | changes)
        (folder / SETTINGS_NAME).write_text(new.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return new


class Graph:
    """A graph in a folder, compiled for a device. Safe to use from many threads at once.

    Args:
        folder: The folder with the graph, its tokenizer and its settings.
        model_kwargs: What the user said about loading: `device` and `ov_config`, also nested as sentence-transformers
            has them. Settings of OpenVINO win over what the graph was compiled for.
        precision: Another precision than the graph's own settings say.

    Raises:
        CheckpointError: The files are damaged.
        DeviceUnavailableError: There is no such device.
        InputError: OpenVINO does not know a setting, or not this value of it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model_kwargs: Mapping[str, Any] | None = None,
        precision: str | None = None,
    ) -> None:
        self.settings = GraphSettings.read(folder)
        settings = model_kwargs or {}
        nested = settings.get("model_kwargs") or {}
        device = device_name(settings.get("device") or nested.get("device"))
        ov_config = {**(nested.get("ov_config") or {}), **(settings.get("ov_config") or {})}
        check_device(device)
        check_settings(device, ov_config)
        config = {**hints(device, precision or self.settings.precision), **ov_config}
        as_made = device == "CPU" and not ov_config and precision is None
        is_prebuilt = as_made and self.settings.built_for == prebuilt.machine()
        with ThreadPoolExecutor(1) as beside:  # OpenVINO leaves a core idle
            tokenizer = beside.submit(_tokenizer, folder / TOKENIZER_NAME)
            self._compiled = {
                route: (is_prebuilt and prebuilt.read(folder / f"{route}.xml", config))
                or _compiled(folder / f"{route}.xml", device, config)
                for route in self.settings.all_routes
            }
            self._tokenizer = tokenizer.result()
        self._idle = {route: _requests(compiled) for route, compiled in self._compiled.items()}
        self.dimension = int(self._compiled["model"].output(0).partial_shape[-1].get_length())
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
        route = route if route in self._compiled else "model"
        with tqdm(total=len(texts), desc="Embedding", unit=" texts", disable=not show_progress) as bar:
            for start in range(0, len(texts), _TOKENIZED_TOGETHER):
                part = texts[start : start + _TOKENIZED_TOGETHER]
                encodings = self._tokenizer.encode_batch_fast(list(part))
                rows = vectors[start : start + len(part)]
                for done in self._run(encodings, rows, route, max_rows):
                    bar.update(done)
        return vectors

    def _run(
        self, encodings: Sequence[Encoding], rows: NDArray[np.float32], route: str, max_rows: int | None
    ) -> Iterator[int]:
        """Fills in the rows of texts, and says after each batch how many."""
        idle = self._idle[route]
        running: deque[tuple[ov.InferRequest, list[int]]] = deque()
        try:
            for batch in _cut([len(encoding) for encoding in encodings], max_rows):
                inputs = self._inputs([encodings[index] for index in batch])
                while (request := _take(idle, wait=not running)) is None:  # others have the rest, so one of ours first
                    yield self._collect(*running.popleft(), rows, idle)
                request.start_async(inputs)
                running.append((request, batch))
            while running:
                yield self._collect(*running.popleft(), rows, idle)
        finally:
            for request, _ in running:  # whoever stops before the end leaves nothing running behind
                request.wait()
                idle.put(request)

    @staticmethod
    def _collect(
        request: ov.InferRequest,
        batch: list[int],
        rows: NDArray[np.float32],
        idle: queue.SimpleQueue[ov.InferRequest],
    ) -> int:
        try:
            request.wait()
            rows[batch] = request.get_output_tensor(0).data
        except RuntimeError as error:
            msg = f"OpenVINO cannot run the graph: {reason(error)}"
            raise CheckpointError(msg, hint='use the model with backend="torch"') from error
        finally:
            idle.put(request)
        return len(batch)

    def inputs(self, texts: Sequence[Text]) -> dict[str, NDArray[np.int64]]:
        """Texts as one batch of the graph. Shape of an array: `(len(texts), tokens of the longest)`."""
        return self._inputs(self._tokenizer.encode_batch_fast(list(texts)))

    def _inputs(self, encodings: Sequence[Encoding]) -> dict[str, NDArray[np.int64]]:
        length = max([1, *map(len, encodings)])
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


def _cut(counts: Sequence[int], max_rows: int | None) -> Iterator[list[int]]:
    if max_rows is None:
        return batches(counts)
    return batches(counts, token_budget=sys.maxsize, max_rows=max_rows)


def _requests(compiled: ov.CompiledModel) -> queue.SimpleQueue[ov.InferRequest]:
    count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + _SPARE_REQUESTS
    requests: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
    for _ in range(count):
        requests.put(compiled.create_infer_request())
    return requests


def _take(idle: queue.SimpleQueue[ov.InferRequest], *, wait: bool) -> ov.InferRequest | None:
    with contextlib.suppress(queue.Empty):
        return idle.get(block=wait)
    return None


def hints(device: str, precision: str) -> dict[str, Any]:
    """What OpenVINO is told unless the user says otherwise.

    One stream answers a query soonest, and where the cores are few, a corpus as fast as several would.
    """
    hints: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "f32"
    # What is not quantized in a quantized graph stays exact: it is little, and texts get the same vectors anywhere.
    hints["INFERENCE_PRECISION_HINT"] = "f32" if precision == "int8" else precision
    return hints


def has_bf16(device: str = "CPU") -> bool:
    """Whether the device calculates in bf16 itself."""
    return "BF16" in runtime.core().get_property(device.partition(":")[0], "OPTIMIZATION_CAPABILITIES")


def _tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # tokenizers raises nothing more special
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    msg = f"the compiled graph {path} cannot be read: {reason(error)}"
    return CheckpointError(msg, hint="compile the model again: localhf compile --force MODEL")


def _compiled(path: Path, device: str, config: dict[str, Any]) -> ov.CompiledModel:
    try:
        model = runtime.core().read_model(path)
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    try:
        return runtime.core().compile_model(model, device, config)
    except (RuntimeError, TypeError) as error:
        msg = f"OpenVINO cannot run the graph with ov_config={config}: {reason(error)}"
        raise InputError(msg, hint="change or leave out the setting that it names") from error
