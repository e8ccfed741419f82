"""LangChain's own tests of a chat model: a tiny one that knows their dialogues by heart, and one that reads images.

What LangChain leaves off and stays off here: reading PDF and audio, which transformers' chat models cannot; images by
their address, which would have to be downloaded; another model by name for a single call, since an object is one
model; recorded HTTP, of which there is none; and keys from the environment, of which a local model needs none.
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from PIL import Image
from support import language_models, openvino_models, trained_model

from langchain_localhf.chat_models import ChatHuggingFace
from langchain_localhf.llms import HuggingFacePipeline

if TYPE_CHECKING:
    from collections.abc import Callable


_TASK = "text-generation"


@cache
def _trained() -> HuggingFacePipeline:
    return HuggingFacePipeline.from_model_id(str(trained_model.folder()), task=_TASK)


@cache
def _trained_for_openvino() -> HuggingFacePipeline:
    folder = str(openvino_models.exported(trained_model.folder()))
    settings = {"ov_config": openvino_models.EXACT}
    return HuggingFacePipeline.from_model_id(folder, task=_TASK, backend="openvino", model_kwargs=settings)


@cache
def _vision() -> HuggingFacePipeline:
    return HuggingFacePipeline.from_model_id(str(language_models.vision_folder()), task="image-text-to-text")


@pytest.fixture
def benchmark() -> Callable[[Callable[[], object]], object]:
    """Calls a function once: that it works is what matters here."""
    return lambda function: function()


class TestUnit(ChatModelUnitTests):
    """What every chat model of LangChain must do without being called."""

    @property
    def chat_model_class(self) -> type[ChatHuggingFace]:
        return ChatHuggingFace

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"llm": _trained()}

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        # A local model has no key, and what it does not have it refuses.
        return {name: value for name, value in super().standard_chat_model_params.items() if name != "api_key"}


class TestIntegration(ChatModelIntegrationTests):
    """What every chat model of LangChain must do with a model."""

    @property
    def chat_model_class(self) -> type[ChatHuggingFace]:
        return ChatHuggingFace

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"llm": _trained()}

    @property
    def has_tool_choice(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return False


class TestIntegrationByFunctionCalling(TestIntegration):
    """The same, where the schema of an answer is a tool that has to be called."""

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}


class TestIntegrationOnOpenVino(TestIntegration):
    """The same on the engine that needs no torch."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"llm": _trained_for_openvino()}


class TestIntegrationOnOpenVinoByFunctionCalling(TestIntegrationOnOpenVino):
    """The same, where the schema of an answer is a tool that has to be called."""

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}


class TestVision(TestIntegration):
    """The same with a model that reads images, whose weights are random."""

    @pytest.fixture(autouse=True)
    def _picture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The picture that these tests download, without a network."""
        data = io.BytesIO()
        Image.linear_gradient("L").convert("RGB").save(data, format="PNG")
        monkeypatch.setattr(httpx, "get", lambda *_, **__: httpx.Response(200, content=data.getvalue()))

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"llm": _vision()}

    @property
    def has_tool_calling(self) -> bool:
        return False  # this model's chat template knows no tools, but the results that they have left

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True
