"""What the package offers, and what importing it costs."""

from __future__ import annotations

import statistics
import subprocess
import sys

import pytest

import langchain_localhf

FRAMEWORKS = ("torch", "transformers", "sentence_transformers", "openvino", "chromadb")
# The whole of LangChain's core may be slow to import; importing the package alone must not even start with it.
HEAVY = (*FRAMEWORKS, "langchain_core", "pydantic", "numpy", "huggingface_hub")


def run(code: str) -> str:
    """What a new Python prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 - our own


def loaded_by(statement: str, modules: tuple[str, ...]) -> str:
    """Which of the modules a statement loads."""
    return run(f"import sys; {statement}; print(*[name for name in {modules} if name in sys.modules])")


def test_names_are_sorted_and_real() -> None:
    """`__all__` is sorted, and each of its names can be imported."""
    assert sorted(langchain_localhf.__all__) == langchain_localhf.__all__
    assert dir(langchain_localhf) == langchain_localhf.__all__
    for name in langchain_localhf.__all__:
        assert getattr(langchain_localhf, name).__name__ in {name, "HuggingFaceEmbeddings"}


def test_names_are_told_to_type_checkers() -> None:
    """What is loaded on first use is what a type checker is told, and nothing is forgotten."""
    assert sorted(langchain_localhf._HOME_OF) == langchain_localhf.__all__
    for name, home in langchain_localhf._HOME_OF.items():
        assert getattr(langchain_localhf, name) is getattr(sys.modules[f"langchain_localhf.{home}"], name)


def test_version() -> None:
    """`__version__` is the version of the installed package."""
    assert langchain_localhf.__version__[0].isdigit()


def test_unknown_name() -> None:
    """A name that is not there is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'HugingFaceEmbeddings'"):
        _ = langchain_localhf.HugingFaceEmbeddings


def test_import_loads_nothing_heavy() -> None:
    """`import langchain_localhf` loads no framework, and not even LangChain."""
    assert loaded_by("import langchain_localhf", HEAVY) == ""


@pytest.mark.parametrize("name", ["HuggingFaceEmbeddings", "HuggingFaceCrossEncoder", "CrossEncoderReranker"])
def test_class_loads_no_framework(name: str) -> None:
    """Naming the class loads LangChain's base class and no framework; making an object does."""
    assert loaded_by(f"from langchain_localhf import {name}", FRAMEWORKS) == ""
    assert loaded_by(f"from langchain_localhf import {name}", ("langchain_core",)) == "langchain_core"


def test_import_time() -> None:
    """`import langchain_localhf` takes at most 50 ms more than `import langchain_core.embeddings`."""
    timed = "import time; start = time.perf_counter(); import {}; print(time.perf_counter() - start)"
    seconds: dict[str, list[float]] = {"langchain_localhf": [], "langchain_core.embeddings": []}
    for _ in range(5):  # interleaved, so that another load on the machine meets both
        for module, times in seconds.items():
            times.append(float(run(timed.format(module))))
    ours, theirs = (statistics.median(times) for times in seconds.values())
    assert ours <= theirs + 0.05
