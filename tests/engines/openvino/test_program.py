"""A graph that any number of threads run at once."""

from __future__ import annotations

import numpy as np
import pytest
from support import compiled

from langchain_localhf.engines.openvino.program import Program, Target
from langchain_localhf.engines.openvino.settings import PIXELS_NAME, GraphSettings
from langchain_localhf.errors import CheckpointError


def test_requests_come_back() -> None:
    """From runs that fail, and from those that nobody follows to the end: there are only a few."""
    folder = compiled.dual_encoder().folder / "openvino"
    program = Program(folder / "images.xml", Target.of(GraphSettings.read(folder), {}))
    good, bad = np.zeros((1, 3, 32, 32), dtype=np.float32), np.zeros((1, 3, 31, 32), dtype=np.float32)
    rows = np.empty((4, program.dimension), dtype=np.float32)
    for _ in range(10):
        with pytest.raises(CheckpointError, match="cannot run"):
            list(program.run([([0], {PIXELS_NAME: good}), ([1], {PIXELS_NAME: bad})], rows))
        with pytest.raises(RuntimeError):
            list(program.run([([0], {"no input": good})], rows))
        next(program.run([([place], {PIXELS_NAME: good}) for place in range(4)], rows))
    assert list(program.run([([place], {PIXELS_NAME: good}) for place in range(4)], rows)) == [1, 1, 1, 1]
    assert np.array_equal(rows[0], rows[3])
