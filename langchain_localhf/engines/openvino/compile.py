"""A traced model as one OpenVINO graph on disk, with all that running it needs."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import openvino as ov

from langchain_localhf.engines.openvino import prebuilt, runtime
from langchain_localhf.engines.openvino.graph import TOKENIZER_NAME, Graph
from langchain_localhf.engines.openvino.program import has_bf16, hints
from langchain_localhf.engines.openvino.settings import IMAGES_NAME, PIXELS_NAME, GraphSettings
from langchain_localhf.engines.openvino.telemetry import telemetry_off
from langchain_localhf.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_localhf.engines.traceable import Traceable

_ANY_SHAPE = [-1, -1]


def write_graph(traceable: Traceable, folder: Path) -> None:
    """Traces a model into `folder`: a graph with its weights for each part, the tokenizer and the settings, in f32.

    Raises:
        UnsupportedModelError: The model does something that has no counterpart in OpenVINO.
    """
    for route, module in traceable.modules.items():
        model = _traced(module, traceable.examples)
        _name_inputs(model, traceable.inputs, ov.Type.i64, _ANY_SHAPE)
        ov.save_model(model, folder / f"{route}.xml", compress_to_fp16=False)
    if images := traceable.images:
        model = _traced(images.module, (images.example,))
        _name_inputs(model, (PIXELS_NAME,), ov.Type.f32, [-1, *images.example.shape[1:]])
        ov.save_model(model, folder / f"{IMAGES_NAME}.xml", compress_to_fp16=False)
    (folder / TOKENIZER_NAME).write_text(traceable.tokenizer_json, encoding="utf-8")
    GraphSettings(
        inputs=traceable.inputs,
        max_tokens=traceable.max_tokens,
        padding_side=traceable.padding_side,
        pad_token_id=traceable.pad_token_id,
        pad_token_type_id=traceable.pad_token_type_id,
        padded_to=traceable.padded_to,
        routes=tuple(route for route in traceable.modules if route != "model"),
        images=images.preparation if images else None,
    ).changed(folder)


def finish(folder: Path, precision: str) -> None:
    """Says what the graphs in `folder` are to be calculated in, and builds their programs for machines like this."""
    settings = GraphSettings.read(folder).changed(folder, precision=precision)
    for name in settings.all_graphs:
        prebuilt.write(folder / f"{name}.xml", hints("CPU", precision))
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


def _traced(module: Any, example: tuple[Any, ...]) -> ov.Model:  # noqa: ANN401 - torch is another engine's
    try:
        with warnings.catch_warnings(), telemetry_off():
            warnings.simplefilter("ignore")  # a branch that a trace fixed shows in the comparison with torch
            return ov.convert_model(module, example_input=example)
    except Exception as error:  # whatever the model's own code raises while it is traced
        msg = f"the model cannot be traced into a graph: {_first_line(error)}"
        raise UnsupportedModelError(msg, hint='use it with backend="torch"') from error


def _name_inputs(model: ov.Model, names: Sequence[str], kind: ov.Type, shape: Sequence[int]) -> None:
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(ov.PartialShape(list(shape)))
        port.get_node().set_element_type(kind)
    model.validate_nodes_and_infer_types()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
