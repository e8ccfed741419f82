"""Signals while models come and go: OpenVINO must not take the stack away that they are handled on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import compiled, openvino_models

_START = """
import ctypes, gc, os, signal, sys, threading
from langchain_localhf import HuggingFaceEmbeddings, HuggingFacePipeline

class Stack(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]

def is_gone():
    stack = Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    areas = [line.split()[0].split("-") for line in open("/proc/self/maps")]
    return bool(stack.start) and not any(int(a, 16) <= stack.start < int(b, 16) for a, b in areas)

def in_a_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
"""
_GRAPH = """
def use():
    embeddings = HuggingFaceEmbeddings(model_name=sys.argv[1], backend="openvino", model_kwargs={"ov_config": {}})
    embeddings.embed_query("hello")
"""
_LANGUAGE_MODEL = """
def use():
    hf = HuggingFacePipeline.from_model_id(
        sys.argv[1], task="text-generation", backend="openvino",
        model_kwargs={"ov_config": {"PERFORMANCE_HINT": "LATENCY"}}, pipeline_kwargs={"max_new_tokens": 3},
    )
    hf.invoke("hello")
"""
_END = """
for run in (use, lambda: in_a_thread(use), use):
    run()
    gc.collect()
    assert not is_gone()
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's list of memory areas")
@pytest.mark.parametrize("kind", ["graph", "language model"])
def test_ctrl_c_after_models_are_gone(kind: str) -> None:
    """A signal is handled, and does not end the process; whatever thread used a model, and dropped it."""
    folder = compiled.tiny().folder if kind == "graph" else openvino_models.folder("gpt2")
    program = _START + (_GRAPH if kind == "graph" else _LANGUAGE_MODEL) + _END
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-W", "ignore", "-c", program, str(folder)],
        capture_output=True, text=True, check=False, env={**os.environ},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr
