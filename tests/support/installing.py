"""What pip would bring for a requirement, put into an environment as links to what is installed here already."""

from __future__ import annotations

import tomllib
from importlib.metadata import distribution, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_LAUNCHER = "#!{python}\nimport sys\nfrom {module} import {attribute}\nsys.exit({attribute}())\n"
# Read anew: an editable installation may know an older one.
_PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def required(name: str, extra: str) -> list[Requirement]:
    """What a package requires by itself, or for one of its extras, on this machine."""
    if name == _PROJECT["name"]:
        lines = _PROJECT["optional-dependencies"][extra] if extra else _PROJECT["dependencies"]
    else:
        lines = requires(name) or []
    found = map(Requirement, lines)
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": extra})]


def closure(requirement: str) -> set[str]:
    """The packages that a requirement brings, with all that they require in turn."""
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(requirement)]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        for key in {(name, extra) for extra in ("", *one.extras)} - seen:
            seen.add(key)
            waiting += required(*key)
    return {name for name, _ in seen}


def install(requirement: str, packages: Path, scripts: Path) -> None:
    """Links what a requirement brings.

    Args:
        requirement: The requirement, as pip reads it.
        packages: The `site-packages` that it goes to.
        scripts: The folder for its commands, beside the `python` that runs them.
    """
    for name in closure(requirement):
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or () if file.parts[0] not in {"..", "__pycache__"}}:
            target = Path(str(found.locate_file(top)))
            link = packages / top
            if not link.is_symlink():
                link.symlink_to(target)
        for script in found.entry_points.select(group="console_scripts"):
            launcher = _LAUNCHER.format(python="/opt/python/bin/python", module=script.module, attribute=script.attr)
            (scripts / script.name).write_text(launcher, encoding="utf-8")
            (scripts / script.name).chmod(0o755)
