"""The program that OpenVINO makes of a graph, kept for the next start on a machine of the same kind.

Weights in floating point are not in it: those stay in the graph's own file. Whole numbers are, a second time. It saves
half of what a start takes in OpenVINO. Where anything is different, the program is made anew from the graph; golden
vectors are compared in either case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import openvino as ov

from langchain_localhf.engines.openvino import runtime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DEVICE = "CPU"
_WITHOUT_WEIGHTS = {"CACHE_MODE": "OPTIMIZE_SIZE"}


def machine() -> str:
    """What a program is made for: this version of OpenVINO, and a processor of this kind."""
    core = runtime.core()
    capabilities = " ".join(sorted(core.get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")))
    return f"{ov.get_version()}; {core.get_property(_DEVICE, 'FULL_DEVICE_NAME').strip()}; {capabilities}"


def write(graph: Path, config: Mapping[str, Any]) -> None:
    """Makes the program of a graph with these settings, and puts it beside the graph, as `.blob`."""
    core = runtime.core()
    compiled = core.compile_model(core.read_model(graph), _DEVICE, {**config, **_WITHOUT_WEIGHTS})
    graph.with_suffix(".blob").write_bytes(compiled.export_model().getvalue())


def read(graph: Path, config: Mapping[str, Any]) -> ov.CompiledModel | None:
    """The program of a graph, ready to run; None if OpenVINO does not take it."""
    blob, weights = graph.with_suffix(".blob"), graph.with_suffix(".bin")
    if not blob.is_file():
        return None
    settings = {**config, **_WITHOUT_WEIGHTS, "WEIGHTS_PATH": str(weights)}
    try:
        return runtime.core().import_model(ov.Tensor(np.fromfile(blob, dtype=np.uint8)), _DEVICE, settings)
    except RuntimeError:  # whatever it is, the graph itself is there
        return None
