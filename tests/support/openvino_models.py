"""The tiny language models for OpenVINO, exported once a run by the real optimum-cli, for tests that read them."""

from __future__ import annotations

import os
import shutil
import time
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from langchain_localhf.engines.openvino.export import export_language_model
from langchain_localhf.engines.openvino.steps import Steps
from support import language_models

# Read before the tests empty the environment.
_NAMED = os.environ.get("LOCALHF_OPTIMUM_CLI")
_OF_THE_PROJECT = Path(__file__).parents[2] / ".venv-export" / "bin" / "optimum-cli"
# With these, every token is the one that transformers gives.
EXACT: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
_STEP_SECONDS = 0.003


@cache
def optimum_cli() -> Path | None:
    """The command that exports models, if there is one on this machine."""
    on_path = shutil.which("optimum-cli")
    found = _NAMED or (str(_OF_THE_PROJECT) if _OF_THE_PROJECT.is_file() else on_path)
    return Path(found) if found else None


@cache
def exported(source: Path, weight_format: str | None = None) -> Path:
    """The model in `source` for OpenVINO; not to be written to. Skips the test where nothing can export it."""
    command = optimum_cli()
    if command is None:
        pytest.skip("optimum-cli is not installed; `make export-env` installs it")
    path = Path(mkdtemp(prefix="localhf-tests-")) / source.name
    export_language_model(source, path, optimum_cli=command, weight_format=weight_format, say=lambda line: None)
    return path


def folder(family: str, weight_format: str | None = None) -> Path:
    """The tiny model of `family` for OpenVINO; not to be written to."""
    return exported(language_models.folder(family), weight_format)


def slow_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a tiny model be about as fast as a small real one, so that there is time to interrupt it."""
    step = Steps._step

    def slow(self: Steps) -> None:
        time.sleep(_STEP_SECONDS)
        step(self)

    monkeypatch.setattr(Steps, "_step", slow)


def copy(family: str, target: Path) -> Path:
    """A copy of the exported model that may be changed."""
    return shutil.copytree(folder(family), target)
