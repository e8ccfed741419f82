"""What `pip install "langchain-localhf[openvino]"` brings, and what it must not."""

from __future__ import annotations

import pytest
from support.installing import closure

# Frameworks, and what only compiling needs.
HEAVY = {"torch", "transformers", "sentence-transformers", "nncf", "scikit-learn", "scipy", "pandas", "onnxruntime"}


@pytest.mark.parametrize("extra", ["", "[openvino]", "[openvino,serve]"])
def test_no_framework_comes_along(extra: str) -> None:
    """Neither directly nor by way of another package."""
    names = closure(f"langchain-localhf{extra}")
    assert {"langchain-core", "httpx", "numpy", "tokenizers"} <= names
    assert not names & HEAVY


def test_everything_that_the_engine_imports_comes_along() -> None:
    """For embeddings and for language models."""
    names = closure("langchain-localhf[openvino]")
    assert {"openvino", "openvino-genai", "openvino-tokenizers", "jinja2", "llguidance"} <= names


@pytest.mark.parametrize(("extra", "heavy"), [("torch", "torch"), ("torch", "transformers"), ("compile", "nncf")])
def test_other_extras_bring_them(extra: str, heavy: str) -> None:
    """So the first test would see one."""
    assert heavy in closure(f"langchain-localhf[{extra}]")
