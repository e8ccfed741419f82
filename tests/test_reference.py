"""The reference is complete: each error with its cause and its fix, each variable of the environment."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import langchain_localhf
from langchain_localhf.errors import LocalHFError
from langchain_localhf.server import failures

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"
ENVIRONMENTS = {"os.environ", "environ", "environment"}
FUNCTIONS = {"os.getenv", "getenv", *(f"{name}.get" for name in ENVIRONMENTS)}
VARIABLE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")


def all_errors() -> list[type[LocalHFError]]:
    """Every error class of the package, wherever it is defined."""
    for module in pkgutil.walk_packages(langchain_localhf.__path__, "langchain_localhf."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    found, waiting = [], [LocalHFError]
    while waiting:
        kind = waiting.pop()
        found.append(kind)
        waiting.extend(kind.__subclasses__())
    ours = (kind for kind in found if kind.__module__.startswith("langchain_localhf."))
    return sorted(ours, key=lambda kind: kind.__name__)


def sections(kind: type) -> dict[str, str]:
    """The sections of a docstring, by their titles."""
    parts = re.split(r"^(\w+):\n", inspect.getdoc(kind) or "", flags=re.MULTILINE)
    return {title: " ".join(text.split()) for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading."""
    _, _, text = (REFERENCE / page).read_text(encoding="utf-8").partition(f"# {heading}\n")
    table = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


def asked_for(node: ast.AST) -> ast.expr | None:
    """The name of a variable, where a piece of code asks the environment for one."""
    match node:
        case ast.Call(func=function, args=[name, *_]) if ast.unparse(function) in FUNCTIONS:
            return name
        case ast.Subscript(value=value, slice=name, ctx=ast.Load()) if ast.unparse(value) in ENVIRONMENTS:
            return name
        case ast.Compare(left=name, comparators=[value]) if ast.unparse(value) in ENVIRONMENTS:
            return name
        case ast.keyword(arg="envvar", value=name):
            return name
    return None


def read_variables(path: Path) -> set[str]:
    """The variables that a file reads from the environment: named where they are read, or in a constant beside it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [name for name in map(asked_for, ast.walk(tree)) if name is not None]
    stated = {str(name.value) for name in names if isinstance(name, ast.Constant)}
    if all(isinstance(name, ast.Constant) for name in names):
        return stated
    constants = [node for statement in tree.body if isinstance(statement, ast.Assign) for node in ast.walk(statement)]
    texts = {str(node.value) for node in constants if isinstance(node, ast.Constant)}
    return stated | {text for text in texts if VARIABLE.fullmatch(text)}


def variables_of(folder: str) -> set[str]:
    """The variables that the Python files of a folder read."""
    found: set[str] = set()
    return found.union(*map(read_variables, (ROOT / folder).rglob("*.py")))


@pytest.mark.parametrize("kind", all_errors(), ids=lambda kind: kind.__name__)
def test_error(kind: type[LocalHFError]) -> None:
    """Every error says what it means, its usual causes and the fix, and has a place on the page of errors."""
    assert set(sections(kind)) >= {"Cause", "Fix"}
    assert min(len(sections(kind)[title]) for title in ("Cause", "Fix")) > 15
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    assert f"::: {kind.__module__}.{kind.__name__}\n" in page or f"::: {kind.__module__}\n" in page


def test_statuses() -> None:
    """The page of errors has the server's table of errors and statuses, as it is."""
    listed = [[cell.strip("`") for cell in row] for row in rows("errors.md", "Errors of the server")]
    table = [(kind.__name__, failure) for kind, failure in failures._FAILURES]
    expected = [
        [name, str(f.status), str(failures._OPENAI_STATUS.get(f.status, f.status)), f.tei_type, f.openai_type]
        for name, f in [*table, ("any other", failures._BROKEN)]
    ]
    assert listed == expected


def test_variables() -> None:
    """The page of the environment lists the variables that the package reads, and no other."""
    listed = [row[0].strip("`") for row in rows("environment.md", "Environment variables")]
    assert sorted(listed) == sorted(variables_of("langchain_localhf"))


def test_variables_of_examples() -> None:
    """The page of the environment lists the variables that the examples read beside these, and no other."""
    listed = [name.strip("` ") for row in rows("environment.md", "Of the examples") for name in row[0].split(",")]
    assert sorted(listed) == sorted(variables_of("examples") - variables_of("langchain_localhf"))


@pytest.mark.parametrize(
    "code",
    [
        "import os; os.environ.get('MY_HOME')",
        "import os; os.environ['MY_HOME']",
        "import os; os.getenv('MY_HOME', '')",
        "import os; environment = os.environ; environment.get('MY_HOME')",
        "import os; 'MY_HOME' in os.environ",
        "import click; click.option('--home', envvar='MY_HOME')",
        "import os; HOMES = ('MY_HOME', 'no name'); [os.environ.get(home) for home in HOMES]",
    ],
)
def test_finds_variables(tmp_path: Path, code: str) -> None:
    """However a variable is read, it is found, so that it has to be listed."""
    (tmp_path / "module.py").write_text(code, encoding="utf-8")
    assert read_variables(tmp_path / "module.py") == {"MY_HOME"}
