"""A package of the comparison; `features.py` starts it in the package's own environment, see `protocol.py`."""

from __future__ import annotations

import json
import sys
import warnings
from functools import cache
from importlib import import_module
from importlib.metadata import version
from typing import Any

from protocol import serve

SETTINGS = json.loads(sys.argv[1])


@cache
def probes() -> Any:  # noqa: ANN401 - a class of one of the modules of probes
    """The probes of the package, with the network shut."""
    from probing import Network  # noqa: PLC0415 - shuts the network

    warnings.simplefilter("ignore")
    module = import_module(SETTINGS["probes"])
    return getattr(module, SETTINGS["name"])(SETTINGS["folders"], Network())


def probe(row: str) -> dict[str, str]:
    """What the package does where the row is about: its cell, and what was seen."""
    cell, seen = getattr(probes(), row)()
    return {"cell": cell, "seen": seen}


def versions(distributions: list[str]) -> dict[str, str]:
    """What is installed here."""
    return {name: version(name) for name in distributions}


if __name__ == "__main__":
    serve({"probe": probe, "versions": versions})
