"""The comparison with other packages: what can run here is run again, and no cell is without evidence."""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
HERE = ("langchain-localhf", "langchain-huggingface", "langchain-community")
EVIDENCE: dict[str, Any] = json.loads((ROOT / "docs" / "comparison.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark's files are found as when one of them is run."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def script(name: str) -> ModuleType:
    """A file of the benchmark."""
    return import_module(name)


@cache
def as_compared() -> tuple[str, ...]:
    """The packages that are here as the table knows them: ours in any case, and others in the same versions."""
    names = ("sentence-transformers", "transformers")
    return HERE[:1] + tuple(
        package
        for package in HERE[1:]
        if all(EVIDENCE["packages"][package]["versions"][name] == version(name) for name in (package, *names))
    )


@cache
def found_now() -> dict[str, Any]:
    """What the probes find in them."""
    features = script("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALHF_HOME", "")  # put back afterwards: preparing sets it
        packages = [package for package in features.PACKAGES if package.name in as_compared()]
        return dict(features.run(Path(sys.prefix), packages))


@pytest.mark.parametrize("package", HERE)
def test_the_probes_find_what_the_table_says(package: str) -> None:
    """Every cell of a package that is installed here."""
    if package not in as_compared():
        pytest.skip(f"the table is about another version of {package}, or of what it stands on")
    committed, now = (
        {row: one["cell"] for row, one in results["found"].items()}
        for results in (EVIDENCE["packages"][package], found_now()[package])
    )
    assert now == committed


def test_every_cell_has_its_evidence() -> None:
    """What was seen, or where it stands in the source."""
    rows = script("feature_rows").ROWS
    assert len({row.name for row in rows}) == len(rows)
    for package in EVIDENCE["packages"].values():
        assert list(package["found"]) == [row.name for row in rows]
        assert all(one["cell"] and len(one["seen"]) > 10 for one in package["found"].values())
    assert all(row.tei and row.places and row.why for row in rows)


def test_the_page_is_what_was_found() -> None:
    """The tables and their evidence, to the last character."""
    comparison = script("comparison")
    assert script("marks").part(ROOT / comparison.PAGE, comparison.MARK) == comparison.page(EVIDENCE)


def test_the_table_of_the_readme_is_a_part_of_the_page() -> None:
    """Its rows stand on the page, and some tell where others go further."""
    comparison = script("comparison")
    short = script("marks").part(ROOT / "README.md", comparison.MARK)
    assert short == comparison.short(EVIDENCE)
    rows = short.splitlines()[2:]
    page = script("marks").part(ROOT / comparison.PAGE, comparison.MARK)
    assert 6 <= len(rows) <= 8
    assert set(rows) <= set(page.splitlines())
    assert any(row.split("|")[2].strip() == "no" for row in rows)


def test_a_refusal_for_another_reason_is_no_proof() -> None:
    """A probe that fails by mistake does not become a cell."""
    refused = script("probing").refused

    def fail() -> None:
        raise OSError("the disk is full")

    assert refused(lambda: None, "loads it", by="ValueError") == ("no: loads it", "no error; loads it")
    assert refused(fail, "loads it", by="OSError") == ("yes", "OSError: the disk is full")
    with pytest.raises(LookupError, match="the disk is full"):
        refused(fail, "loads it", by="ValueError")


def test_what_is_not_there_is_searched_for() -> None:
    """A public name that speaks against a claim stops the run."""
    found_nothing = script("probing").found_nothing
    assert found_nothing("langchain_localhf", "telepathy")[0] == "no"
    with pytest.raises(LookupError, match="HuggingFaceCrossEncoder"):
        found_nothing("langchain_localhf", "crossencoder")
