"""Who takes part, in which environment, and with which settings: each with its own defaults, but for the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

BASELINE = "langchain_huggingface, torch"
FASTEMBED = "fastembed, onnxruntime"
TORCH, F32, BF16, INT8 = (f"localhf, {name}" for name in ("torch", "OpenVINO f32", "OpenVINO bf16", "OpenVINO int8"))
GENERAL = "localhf, OpenVINO"


@dataclass(frozen=True)
class Contestant:
    """One way to run a model.

    Attributes:
        name: What the report calls it.
        environment: The name of its environment.
        library: How the worker makes it.
        arguments: What the worker makes it with.
    """

    name: str
    environment: str
    library: str
    arguments: dict[str, Any] = field(hash=False)

    @property
    def settings(self) -> dict[str, Any]:
        """What its worker is started with."""
        return {"library": self.library, "arguments": self.arguments}


def embedders(models: Path, source: Path, dimension: int) -> list[Contestant]:
    """Those that embed texts, with what was prepared in a folder, and the model that it was made from."""

    def ours(name: str, precision: str, environment: str = "bench-localhf", backend: str = "openvino") -> Contestant:
        fields = {"package": "langchain_localhf", "model_name": f"bench/{precision}", "backend": backend}
        return Contestant(name, environment, "langchain", fields)

    theirs = {"package": "langchain_huggingface", "model_name": str(source)}
    exported = theirs | {"model_name": str(models / "theirs-openvino"), "model_kwargs": {"backend": "openvino"}}
    onnx = {"folder": str(models / "onnx"), "dimension": dimension}
    return [
        Contestant(BASELINE, "bench-huggingface", "langchain", theirs),
        Contestant("langchain_huggingface, openvino", "export", "langchain", exported),
        Contestant(FASTEMBED, "bench-fastembed", "fastembed", onnx),
        ours(TORCH, "f32", "bench-localhf-torch", "torch"),
        ours(F32, "f32"),
        ours(BF16, "bf16"),
        ours(INT8, "int8"),
    ]


def generators(models: Path) -> list[Contestant]:
    """Those that generate text; the two of each package on OpenVINO read the same exported folder."""
    plain = {"model_id": str(models / "lm")}
    exported = {"model_id": str(models / "lm-openvino"), "backend": "openvino"}
    exact = {"device": "CPU", "ov_config": {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}}
    default = {"device": "CPU", "ov_config": {}}
    theirs, ours = {"package": "langchain_huggingface"}, {"package": "langchain_localhf"}

    def contestant(name: str, environment: str, **arguments: Any) -> Contestant:  # noqa: ANN401 - of a class
        return Contestant(name, environment, "langchain", arguments)

    return [
        contestant(BASELINE, "bench-huggingface", **theirs, **plain),
        contestant("langchain_huggingface, openvino", "export", **theirs, **exported, model_kwargs=default),
        contestant(TORCH, "bench-localhf-torch", **ours, **plain),
        contestant(F32, "bench-localhf", **ours, **exported, model_kwargs=exact),
        contestant(GENERAL, "bench-localhf", **ours, **exported, model_kwargs=default),
    ]
