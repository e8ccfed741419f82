"""The environments of the contestants, and one folder with everything that they read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Any

from protocol import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from contestants import Contestant

_LIBRARIES = (
    "langchain-huggingface", "sentence-transformers", "transformers", "torch", "optimum-intel", "openvino",
    "openvino-genai", "fastembed", "onnxruntime", "tokenizers",
)  # fmt: skip


@dataclass(frozen=True)
class Environments:
    """Where contestants run.

    Attributes:
        prefix: What the paths of all environments begin with; the name of one follows after a hyphen.
        shared: The folder with models and texts.
    """

    prefix: Path
    shared: Path

    def folder(self, environment: str) -> Path:
        """Where an environment lies."""
        return self.prefix.with_name(f"{self.prefix.name}-{environment}")

    def python(self, environment: str) -> Path:
        """The interpreter of an environment."""
        return self.folder(environment) / "bin" / "python"

    def start(self, contestant: Contestant, script: str) -> Worker:
        """A contestant's process."""
        return self.worker(contestant.environment, script, contestant.settings)

    def worker(self, environment: str, script: str, settings: Any = None) -> Worker:  # noqa: ANN401 - JSON
        """A process in an environment."""
        return Worker(self.python(environment), script, settings, {"LOCALHF_HOME": str(self.shared / "store")})

    def installed(self, environment: str) -> dict[str, Any]:
        """How large an environment is, in megabytes, without what Python compiled; and the versions that matter."""
        (packages,) = self.folder(environment).glob("lib/python*/site-packages")
        files = [path for path in packages.rglob("*") if "__pycache__" not in path.parts and not path.is_dir()]
        found = {distribution.name: distribution.version for distribution in distributions(path=[str(packages)])}
        return {
            "size": sum(path.lstat().st_size for path in files) / 1e6,
            "versions": {name: found[name] for name in _LIBRARIES if name in found},
        }

    def write(self, name: str, texts: Sequence[str]) -> str:
        """Texts for the workers; answers the path of the file."""
        path = self.shared / f"{name}.json"
        path.write_text(json.dumps(texts), encoding="utf-8")
        return str(path)
