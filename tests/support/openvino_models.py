"""The tiny language models as OpenVINO's, exported once a run by the real optimum-cli; shared by tests that read them."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from support import language_models

# Read before the tests empty the environment.
_NAMED = os.environ.get("LOCALHF_OPTIMUM_CLI")
_ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
_OF_THE_PROJECT = Path(__file__).parents[2] / ".venv-export" / "bin" / "optimum-cli"
# With these, every token is the one that transformers gives.
EXACT: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
FAMILIES = ("gpt2", "llama", "qwen2")


@cache
def optimum_cli() -> str | None:
    """The command that exports models, if there is one on this machine."""
    on_path = shutil.which("optimum-cli")
    return _NAMED or (str(_OF_THE_PROJECT) if _OF_THE_PROJECT.is_file() else on_path)


@cache
def folder(family: str, weight_format: str | None = None) -> Path:
    """The tiny model of `family`, exported; not to be written to. Skips the test where nothing can export it."""
    command = optimum_cli()
    if command is None:
        pytest.skip("optimum-cli is not installed; `make export-env` installs it")
    path = Path(mkdtemp(prefix="localhf-tests-")) / family
    options = ["--weight-format", weight_format] if weight_format else []
    arguments = [command, "export", "openvino", "--task", "text-generation-with-past", *options]
    arguments += ["--model", str(language_models.folder(family)), str(path)]
    done = subprocess.run(arguments, env=_ENVIRONMENT, capture_output=True, text=True, check=False)  # noqa: S603 - the tool itself
    assert done.returncode == 0, done.stderr
    return path


def copy(family: str, target: Path) -> Path:
    """A copy of the exported model that may be changed."""
    return shutil.copytree(folder(family), target)
