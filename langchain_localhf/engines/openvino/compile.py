"""A traced model as one OpenVINO graph on disk, with all that running it needs."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import openvino as ov

from langchain_localhf.engines.openvino import prebuilt, runtime
from langchain_localhf.engines.openvino.graph import TOKENIZER_NAME, Graph, GraphSettings, has_bf16, hints
from langchain_localhf.engines.openvino.telemetry import telemetry_off
from langchain_localhf.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_localhf.engines.traceable import Traceable

_ANY_SHAPE = [-1, -1]


def write_graph(traceable: Traceable, folder: Path) -> None:
    """Traces a model into `folder`: `model.xml` with its weights, the tokenizer and the settings, in f32.

    Raises:
        UnsupportedModelError: The model does something that has no counterpart in OpenVINO.
    """
    for route, module in traceable.modules.items():
        ov.save_model(_traced(module, traceable), folder / f"{route}.xml", compress_to_fp16=False)
    (folder / TOKENIZER_NAME).write_text(traceable.tokenizer_json, encoding="utf-8")
    GraphSettings(
        inputs=traceable.inputs,
        max_tokens=traceable.max_tokens,
        padding_side=traceable.padding_side,
        pad_token_id=traceable.pad_token_id,
        pad_token_type_id=traceable.pad_token_type_id,
        routes=tuple(route for route in traceable.modules if route != "model"),
    ).changed(folder)


def finish(folder: Path, precision: str) -> None:
    """Says what the graph in `folder` is to be calculated in, and builds its program for machines like this one."""
    settings = GraphSettings.read(folder).changed(folder, precision=precision)
    for route in settings.all_routes:
        prebuilt.write(folder / f"{route}.xml", hints("CPU", precision))
    settings.changed(folder, built_for=prebuilt.machine())


def native_precisions() -> tuple[str, ...]:
    """The precisions that this machine's processor calculates in, the most exact first."""
    return ("f32", "bf16") if has_bf16() else ("f32",)


def libraries(precision: str) -> dict[str, str]:
    """The versions of the libraries that compile."""
    names = ("openvino", "torch", "transformers", "sentence-transformers", *(["nncf"] * (precision == "int8")))
    return {library: version(library) for library in names}


def quantize(folder: Path, texts: Sequence[str]) -> None:
    """Replaces the graph in `folder` by one in int8, whose ranges are learned from texts like those it will read."""
    with telemetry_off():
        from langchain_localhf.engines.openvino.quantization import quantized  # noqa: PLC0415 - needs nncf, others do not

    graph = Graph(folder)
    inputs = [graph.inputs([text]) for text in texts]
    for route in graph.settings.all_routes:
        path, new = folder / f"{route}.xml", folder / f"{route}-int8.xml"
        ov.save_model(quantized(runtime.core().read_model(path), inputs), new, compress_to_fp16=False)
        new.replace(path)
        new.with_suffix(".bin").replace(path.with_suffix(".bin"))


def _traced(module: Any, traceable: Traceable) -> ov.Model:  # noqa: ANN401 - torch is another engine's
    try:
        with warnings.catch_warnings(), telemetry_off():
            warnings.simplefilter("ignore")  # a branch that a trace fixed shows in the comparison with torch
            model = ov.convert_model(module, example_input=traceable.examples)
    except Exception as error:  # whatever the model's own code raises while it is traced
        msg = f"the model cannot be traced into a graph: {_first_line(error)}"
        raise UnsupportedModelError(msg, hint='use it with backend="torch"') from error
    _name_inputs(model, traceable.inputs)
    return model


def _name_inputs(model: ov.Model, names: Sequence[str]) -> None:
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(ov.PartialShape(_ANY_SHAPE))
        port.get_node().set_element_type(ov.Type.i64)
    model.validate_nodes_and_infer_types()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
