"""The pages of the repository: what their blocks may be, and what of them runs nowhere, and why.

Their Python and their commands run as tests of their own: see `conftest.py` in the root.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("*/README.md"),
        *ROOT.glob("examples/*/*.md"),
    )
    if not path.relative_to(ROOT).parts[0].startswith((".", "build"))
)
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SKIP = re.compile(r"<!--+ skip: (?:next|start)(.*?)-->")
RUN = {"python", "console"}
# Texts, and parts of files that other tests run.
SHOWN = {"text", "dockerfile", "toml", "yaml", "json"}

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


@each_page
def test_code_is_marked_so_that_it_runs(page: Path) -> None:
    """A block is of a language that the tests run, or is no code to run."""
    assert {language for language, _ in BLOCK.findall(page.read_text(encoding="utf-8"))} <= RUN | SHOWN


@each_page
def test_what_is_shown_of_a_file_is_in_a_file(page: Path) -> None:
    """A block with a part of a file is a part of one, beside the page or in the repository's examples."""
    files = [path.read_text(encoding="utf-8") for path in _files()]
    for language, block in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language in SHOWN - {"text"}:
            assert any(block.strip() in file for file in files), block


@each_page
def test_what_is_skipped_says_why(page: Path) -> None:
    """A block that cannot run here has a reason."""
    for reason in SKIP.findall(page.read_text(encoding="utf-8")):
        assert re.fullmatch(r'\s*(if\(.*\)|"[^"]{10,}")\s*', reason), reason


@each_page
def test_what_is_installed_exists(page: Path) -> None:
    """The extras that a page names are the package's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"langchain-localhf\[[\w,-]+\]|(?<=\")\.\[[\w,-]+\]", page.read_text(encoding="utf-8"))
    extras = {extra for one in named for extra in Requirement(one.replace(".[", "x[")).extras}
    assert extras <= set(project["optional-dependencies"])


@each_page
def test_what_is_made_exists(page: Path) -> None:
    """The targets of `make` that a page names are in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"(?:`|\$ )make ([a-z-]+)", page.read_text(encoding="utf-8")):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_pages_that_errors_name_exist() -> None:
    """A hint that names a page names one that is there."""
    named = {
        name
        for path in (ROOT / "langchain_localhf").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        for name in re.findall(r"\b(?:docs|examples|notebooks)/[\w/.-]+\.\w+", node.value)
    }
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def _files() -> list[Path]:
    """Files that are run by other tests: the examples, and what the tests are made of."""
    folders = (ROOT / "examples", ROOT / "tests" / "support")
    return [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix not in {".md", ".txt", ".pyc"} and path.is_file()
    ]
