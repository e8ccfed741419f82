"""Models on OpenVINO: encoders and cross-encoders as one compiled graph, language models on openvino-genai."""

from langchain_localhf.engines.openvino.telemetry import telemetry_off

# The import alone reports itself, from a process that it forks, to whoever asks nothing of the network here.
with telemetry_off():
    import openvino  # noqa: F401
