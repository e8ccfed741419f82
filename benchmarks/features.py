"""Compares what this package and its peers do, feature by feature, and writes the tables of the docs.

Every package runs its probes in a process and an environment of its own, without a network; what came out is the cell,
and what was seen is kept beside it. `python benchmarks/features.py --help` has the settings.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comparison
import feature_folders
from feature_rows import ROWS
from protocol import Worker

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Package:
    """A package that is compared.

    Attributes:
        name: The name of its distribution.
        module: The module of its probes.
        probes: Their class.
        environment: The name of its environment; empty for the one that this runs in.
        with_it: Other distributions whose versions matter.
    """

    name: str
    module: str
    probes: str
    environment: str = ""
    with_it: tuple[str, ...] = ("sentence-transformers", "transformers", "torch")


OURS = Package(
    "langchain-localhf", "probes_localhf", "LocalHF", with_it=("sentence-transformers", "transformers", "openvino")
)
HUGGINGFACE = Package("langchain-huggingface", "probes_langchain", "HuggingFace")
COMMUNITY = Package("langchain-community", "probes_langchain", "Community")
FASTEMBED = Package("fastembed", "probes_fastembed", "FastEmbed", "bench-fastembed", ("onnxruntime", "huggingface-hub"))
PACKAGES = (OURS, HUGGINGFACE, COMMUNITY, FASTEMBED)


def prepared(home: Path, packages: Sequence[Package]) -> dict[str, str]:
    """Makes what the packages read; answers the folders and files, by name."""
    os.environ["LOCALHF_HOME"] = str(home / "store")
    folders = feature_folders.models(home)
    folders |= feature_folders.texts(home, folders)
    feature_folders.store(folders)
    if FASTEMBED in packages:
        import feature_graphs  # noqa: PLC0415 - only for fastembed

        feature_graphs.graphs(home, folders)
    return folders


def probed(package: Package, folders: dict[str, str], prefix: Path) -> dict[str, Any]:
    """The versions of a package, and what each probe found.

    Raises:
        SystemExit: Its environment is missing, or a probe failed.
    """
    home = folders["home"]
    python = prefix.with_name(f"{prefix.name}-{package.environment}") / "bin" / "python"
    # Nothing says that there is no network.
    environment = {"HF_HUB_OFFLINE": "0", "HF_HOME": home, "HOME": home, "LOCALHF_HOME": f"{home}/store"}
    # Nothing here is measured, and several run at once.
    environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    environment["TMPDIR"] = f"{home}/fastembed"
    Path(environment["TMPDIR"]).mkdir(exist_ok=True)
    settings = {"probes": package.module, "name": package.probes, "folders": folders}
    chosen = python if package.environment else Path(sys.executable)
    with Worker(chosen, "feature_worker.py", settings, environment) as worker:
        found = {row.name: worker.ask("probe", row=row.name) for row in ROWS}
        return {"versions": worker.ask("versions", distributions=[package.name, *package.with_it]), "found": found}


def run(prefix: Path, packages: Sequence[Package]) -> dict[str, Any]:
    """Everything that the packages' probes find."""
    with tempfile.TemporaryDirectory() as home:
        folders = prepared(Path(home), packages)
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda one: probed(one, folders, prefix), packages)
        return {one.name: result for one, result in zip(packages, found, strict=True)}


def main() -> None:
    """Probes, and writes what came out."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add(
        "--environments",
        type=Path,
        default=ROOT / ".venv",
        metavar="PREFIX",
        help="what the paths of theirs begin with",
    )
    add("--tables", action="store_true", help="probe nothing: write the tables of what was found last")
    arguments = parser.parse_args()
    path = ROOT / "docs" / comparison.EVIDENCE
    if not arguments.tables:
        found = run(arguments.environments, PACKAGES)
        results = {"date": datetime.now(UTC).date().isoformat(), "packages": found}
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    comparison.write(json.loads(path.read_text(encoding="utf-8")), ROOT)


if __name__ == "__main__":
    main()
