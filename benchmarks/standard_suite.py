"""LangChain's standard tests of a chat model, for the package and the model that the environment names.

Run by `standard_tests.py`; pytest does not collect it by itself.
"""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_core.language_models import BaseChatModel

PACKAGE, FOLDER = os.environ["STANDARD_TESTS_PACKAGE"], os.environ["STANDARD_TESTS_MODEL"]
OURS = "langchain_localhf"
# As many tokens as LangChain's tests ask for; the other package does not pass on what they say to a pipeline.
_SETTINGS = {"max_new_tokens": 100, "return_full_text": False}


@cache
def _llm() -> Any:  # noqa: ANN401 - a class of the same name in both packages
    pipeline = import_module(PACKAGE).HuggingFacePipeline
    return pipeline.from_model_id(FOLDER, task="text-generation", pipeline_kwargs=_SETTINGS)


@pytest.fixture
def benchmark() -> Callable[[Callable[[], object]], object]:
    """Calls a function once: that it works is what matters here."""
    return lambda function: function()


class _Chat:
    """The class under test."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        """`ChatHuggingFace` of the package."""
        return import_module(PACKAGE).ChatHuggingFace

    @property
    def chat_model_params(self) -> dict[str, Any]:
        """The model."""
        return {"llm": _llm()}


class TestUnit(_Chat, ChatModelUnitTests):
    """What every chat model of LangChain must do without being called."""

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        """Without the key that the tests invent: ours refuses what it does not have."""
        return {name: value for name, value in super().standard_chat_model_params.items() if name != "api_key"}


class TestIntegration(_Chat, ChatModelIntegrationTests):
    """What every chat model of LangChain must do with a model."""

    @property
    def supports_json_mode(self) -> bool:
        """Both say so in `with_structured_output`."""
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        """The other package does not say so, and is not asked."""
        return PACKAGE == OURS

    @property
    def supports_model_override(self) -> bool:
        """One object is one model in both."""
        return False
