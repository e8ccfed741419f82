"""OpenVINO's tools report their use to their maker by themselves; neither running nor compiling does so here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support import checkpoints, compiled

if TYPE_CHECKING:
    from pathlib import Path

# In a process of its own: the tools keep quiet where they see pytest. What they fork is beyond an audit hook, so the
# fork is what is looked for.
_START = """
import json, os, sys
forks = []
sys.addaudithook(lambda event, _arguments: event == "os.fork" and forks.append(event))
"""
_COMPILE = """
from langchain_localhf import provisioning
provisioning.add(sys.argv[1], "org/tiny")
provisioning.compile_model("org/tiny", precision="int8", texts=json.loads(sys.argv[2]))
"""
_RUN = """
from langchain_localhf import HuggingFaceEmbeddings
HuggingFaceEmbeddings(model_name=sys.argv[1], backend="openvino").embed_query("hello")
"""
_END = """
import time
time.sleep(0.5)
print(len(forks), "CI" in os.environ)
"""


@pytest.mark.parametrize("program", [_RUN, _COMPILE], ids=["run", "compile"])
def test_nothing_is_reported(tmp_path: Path, home: Path, program: str) -> None:
    """No process is forked, nothing is written to the home folder, and the environment is as it was."""
    folder = compiled.tiny().folder if program is _RUN else checkpoints.sentence_transformer(tmp_path / "tiny")
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "NNCF_CI", "NNCF_DEV"}}
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-W", "ignore", "-c", _START + program + _END, str(folder), json.dumps(compiled.CALIBRATION)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert done.stdout == "0 False\n"
    assert {path.name for path in home.iterdir()} <= {".cache"}
