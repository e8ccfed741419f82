"""Many clients at once, in a process of their own: those of the benchmark."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from support.server_process import ServerProcess

WORKER = Path(__file__).parents[2] / "benchmarks" / "serving_worker.py"


def load(server: ServerProcess, texts: Path, *, clients: int, seconds: float, first: int = 0) -> dict[str, Any]:
    """What so many clients saw that asked for so long; see `benchmarks/serving_worker.py`.

    Args:
        server: The server.
        texts: A file with a list of texts.
        clients: How many clients ask.
        seconds: How long.
        first: The first text that they send.
    """
    settings = {
        "host": server.host,
        "port": server.port,
        "texts": str(texts),
        "clients": clients,
        "seconds": seconds,
        "first": first,
    }
    command = [sys.executable, str(WORKER), json.dumps(settings)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)  # noqa: S603 - our own
    result: dict[str, Any] = json.loads(ended.stdout)
    return result
