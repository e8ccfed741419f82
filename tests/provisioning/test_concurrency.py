"""Two pulls at once, and a pull that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from support.fake_hub import TINY as NAME
from support.fake_hub import FakeHub
from support.folders import files

import langchain_localhf
from langchain_localhf import provisioning

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.loopback


PULL = "import sys, langchain_localhf; langchain_localhf.pull(*sys.argv[1:])"


def test_killed_pull_goes_on_where_it_was(hub: FakeHub, store_home: Path) -> None:
    """SIGKILL in the middle of the weights: no model is in the store, and no finished file is fetched again."""
    hub.seconds_per_chunk["model.safetensors"] = 0.5
    process = subprocess.Popen([sys.executable, "-c", PULL, NAME])  # noqa: S603 - this test's own code
    staged = store_home / ".partial" / NAME.replace("/", "--")
    others = len(hub.repositories[NAME].commits[hub.repositories[NAME].references["main"]]) - 1
    deadline = time.monotonic() + 60
    while len(files(staged)) < others or len(hub.fetched()) <= others:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert provisioning.models() == []
    hub.seconds_per_chunk.clear()
    hub.requests.clear()
    langchain_localhf.pull(NAME)
    assert hub.fetched() == ["model.safetensors"]
    assert list((store_home / ".partial").iterdir()) == []


@pytest.mark.usefixtures("unchecked")
def test_second_pull_waits_for_the_first(hub: FakeHub, capsys: pytest.CaptureFixture[str]) -> None:
    """It says that it waits, then finds the model there; every file is fetched once."""
    hub.seconds_per_chunk["model.safetensors"] = 0.01
    pulls = [
        threading.Thread(target=langchain_localhf.pull, args=(NAME,), kwargs={"show_progress": True}) for _ in "ab"
    ]
    for thread in pulls:
        thread.start()
    for thread in pulls:
        thread.join()
    said = capsys.readouterr().err
    assert said.count(f"waiting for another process that is pulling {NAME}\n") == 1
    assert said.count(f"{NAME} is here already") == 1
    assert len(hub.fetched()) == len(set(hub.fetched()))
    assert not provisioning.verify(NAME)
