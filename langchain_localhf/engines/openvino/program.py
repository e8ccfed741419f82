"""A graph, built for a device, which any number of threads run at once."""

from __future__ import annotations

import contextlib
import queue
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from langchain_localhf.engines.openvino import prebuilt, runtime
from langchain_localhf.engines.openvino.devices import check_device, check_settings, device_name, reason
from langchain_localhf.engines.openvino.settings import unreadable
from langchain_localhf.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import openvino as ov
    from numpy.typing import NDArray

    from langchain_localhf.engines.openvino.settings import GraphSettings

# What a request waits for beside the one that runs: the next batch is ready when the processor is.
_SPARE_REQUESTS = 1


@dataclass(frozen=True)
class Target:
    """Where a graph is to run, and how.

    Attributes:
        device: The device, as OpenVINO names it.
        config: What OpenVINO is told.
        has_prebuilt: Whether the program beside a graph was made for just this.
    """

    device: str
    config: dict[str, Any]
    has_prebuilt: bool

    @classmethod
    def of(cls, settings: GraphSettings, model_kwargs: Mapping[str, Any], *, precision: str | None = None) -> Self:
        """Where and how the user wants it.

        Args:
            settings: The graph's own settings.
            model_kwargs: What the user said about loading: `device` and `ov_config`, also nested as
                sentence-transformers has them. Settings of OpenVINO win over what the graph was compiled for.
            precision: Another precision than the graph's own settings say.

        Raises:
            DeviceUnavailableError: There is no such device.
            InputError: OpenVINO does not know a setting, or not this value of it.
        """
        nested = model_kwargs.get("model_kwargs") or {}
        device = device_name(model_kwargs.get("device") or nested.get("device"))
        ov_config = {**(nested.get("ov_config") or {}), **(model_kwargs.get("ov_config") or {})}
        check_device(device)
        check_settings(device, ov_config)
        as_made = device == "CPU" and not ov_config and precision is None
        return cls(
            device=device,
            config={**hints(device, precision or settings.precision), **ov_config},
            has_prebuilt=as_made and settings.built_for == prebuilt.machine(),
        )


class Program:
    """A graph, ready to run. Safe to use from many threads at once.

    Args:
        path: The graph, an `.xml` file.
        target: Where it is to run, and how.

    Raises:
        CheckpointError: The graph is damaged.
        InputError: OpenVINO cannot run it with these settings.
    """

    def __init__(self, path: Path, target: Target) -> None:
        ready = prebuilt.read(path, target.config) if target.has_prebuilt else None
        compiled = ready or _compiled(path, target)
        self._idle = _requests(compiled)
        self.dimension = int(compiled.output(0).partial_shape[-1].get_length())

    def run(
        self, batches: Iterable[tuple[Sequence[int], Mapping[str, NDArray[Any]]]], rows: NDArray[np.float32]
    ) -> Iterator[int]:
        """Runs batches, the next one while the one before it is calculated.

        Args:
            batches: For each the rows that it fills, and what the graph takes.
            rows: Where the results go. Shape: `(..., dimension)`.

        Yields:
            After each batch, how many rows it filled.

        Raises:
            CheckpointError: OpenVINO cannot calculate one.
        """
        running: deque[tuple[ov.InferRequest, Sequence[int]]] = deque()
        try:
            for batch, inputs in batches:
                while (request := self._take(wait=not running)) is None:  # others have the rest: one of ours first
                    yield self._collect(*running.popleft(), rows)
                running.append((request, batch))  # first, so that it comes back if it cannot be started
                request.start_async(inputs)
            while running:
                yield self._collect(*running.popleft(), rows)
        finally:
            for request, _ in running:  # whoever stops before the end leaves nothing running behind
                request.wait()
                self._idle.put(request)

    def _take(self, *, wait: bool) -> ov.InferRequest | None:
        with contextlib.suppress(queue.Empty):
            return self._idle.get(block=wait)
        return None

    def _collect(self, request: ov.InferRequest, batch: Sequence[int], rows: NDArray[np.float32]) -> int:
        try:
            request.wait()
            rows[batch] = request.get_output_tensor(0).data
        except RuntimeError as error:
            msg = f"OpenVINO cannot run the graph: {reason(error)}"
            raise CheckpointError(msg, hint='use the model with backend="torch"') from error
        finally:
            self._idle.put(request)
        return len(batch)


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


def _requests(compiled: ov.CompiledModel) -> queue.SimpleQueue[ov.InferRequest]:
    count = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + _SPARE_REQUESTS
    requests: queue.SimpleQueue[ov.InferRequest] = queue.SimpleQueue()
    for _ in range(count):
        requests.put(compiled.create_infer_request())
    return requests


def _compiled(path: Path, target: Target) -> ov.CompiledModel:
    try:
        model = runtime.core().read_model(path)
    except RuntimeError as error:
        raise unreadable(path, error) from error
    try:
        return runtime.core().compile_model(model, target.device, target.config)
    except (RuntimeError, TypeError) as error:
        msg = f"OpenVINO cannot run the graph with ov_config={target.config}: {reason(error)}"
        raise InputError(msg, hint="change or leave out the setting that it names") from error
