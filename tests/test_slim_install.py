"""What `pip install "langchain-localhf[openvino]"` brings, and what it must not."""

from __future__ import annotations

import tomllib
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# Frameworks, and what only compiling needs.
HEAVY = {"torch", "transformers", "sentence-transformers", "nncf", "scikit-learn", "scipy", "pandas", "onnxruntime"}
# Read anew: an editable installation may know an older one.
PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def required(name: str, extra: str) -> list[Requirement]:
    """What a package requires by itself, and for one of its extras, on this machine."""
    if name == PROJECT["name"]:
        lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    else:
        lines = requires(name) or []
    found = map(Requirement, lines)
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": extra})]


def closure(requirement: str) -> set[str]:
    """The packages that a requirement brings, with all that they require in turn."""
    waiting, seen = [Requirement(requirement)], set()
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for key in {(name, extra) for extra in ("", *one.extras)} - seen:
            seen.add(key)
            waiting += required(*key)
    return {name for name, _ in seen}


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
