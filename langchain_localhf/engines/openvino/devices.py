"""Where a model runs and with which settings of OpenVINO, checked before it is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openvino as ov
from openvino import opset13

from langchain_localhf.engines.openvino import runtime
from langchain_localhf.errors import DeviceUnavailableError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

# These spread a model over others.
_VIRTUAL = ("AUTO", "HETERO", "MULTI", "BATCH")
# Where compiled models are kept; a graph that only proves settings is not to be among them.
_CACHE = "CACHE_DIR"


def device_name(device: int | str | None) -> str:
    """A device as OpenVINO names it: -1 and None are the CPU, 0 the first GPU; names pass as they are."""
    if device is None or device == -1:
        return "CPU"
    if isinstance(device, int):
        return "GPU" if device == 0 else f"GPU.{device}"
    return device.upper() if device.lower() in {"cpu", "gpu", "npu"} else device


def check_device(device: str) -> None:
    """Checks that OpenVINO sees the device.

    Raises:
        DeviceUnavailableError: It does not.
    """
    if device == "CPU":  # always there; to look for others takes a moment
        return
    kind, _, rest = device.partition(":")
    available = runtime.core().available_devices
    wanted = [part.partition("(")[0].lstrip("-") for part in rest.split(",") if part] if kind in _VIRTUAL else [device]
    for name in wanted:
        if name not in available and not any(one.startswith(f"{name}.") for one in available):
            msg = f"there is no device {name!r} on this machine; OpenVINO sees {', '.join(available)}"
            raise DeviceUnavailableError(msg, hint=f'use device="{available[0]}"' if available else None)


def check_settings(device: str, ov_config: Mapping[str, Any]) -> None:
    """Checks settings on a graph that does nothing, so that a wrong one is found before a model is read.

    Raises:
        InputError: OpenVINO refuses one; the message is its own.
    """
    if not ov_config:
        return
    nothing = opset13.parameter([1], ov.Type.f32)
    graph = ov.Model([opset13.result(nothing)], [nothing], "settings")
    settings = {name: value for name, value in ov_config.items() if name != _CACHE}
    try:
        runtime.core().compile_model(graph, device, settings)
    except (RuntimeError, TypeError) as error:
        msg = f"OpenVINO refuses ov_config={dict(ov_config)!r}: {reason(error)}"
        raise InputError(msg, hint="change or leave out the one named") from error


def reason(error: BaseException) -> str:
    """What OpenVINO says, without the places in its source."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return " ".join(said) or str(error).strip()
