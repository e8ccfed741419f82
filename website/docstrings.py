"""An extension of griffe: all fields of a pydantic class with their defaults, and every error that is raised as a link."""  # noqa: E501, INP001 - one sentence; griffe loads it by its path

from __future__ import annotations

from copy import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any

from griffe import Attribute, Class, DocstringSectionKind, ExprName, Extension, Object

if TYPE_CHECKING:
    from collections.abc import Iterator

    from griffe import Module
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo


class Docstrings(Extension):
    """Completes what griffe reads from the source of a package."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:  # noqa: ANN401 - griffe passes more than is used
        """Goes through a package when all of it was read."""
        classes = [documented for documented in _within(pkg) if isinstance(documented, Class)]
        models = [documented for documented in classes if _has_fields(documented)]
        for documented in models:
            _adopt_inherited(documented)
        for documented in models:
            _show_fields(documented, getattr(import_module(documented.module.path), documented.name))
        for anything in _within(pkg):
            _link_errors(anything, pkg["errors"])


def _within(outer: Object) -> Iterator[Object]:
    for member in outer.members.values():
        if isinstance(member, Object):
            yield member
            yield from _within(member)


def _has_fields(documented: Class) -> bool:
    """Whether pydantic makes something of what the source states; asked first, because importing takes long."""
    values = (member.value for member in documented.members.values() if isinstance(member, Attribute))
    return any(str(value).startswith("Field(") for value in values)


def _adopt_inherited(documented: Class) -> None:
    """Makes what comes from other classes of the package its own, behind its own: griffe would put it before that."""
    for name, inherited in documented.inherited_members.items():
        if not name.startswith("_"):
            member = copy(inherited.final_target)
            member.parent, member.docstring = documented, copy(member.docstring)
            documented.members[name] = member


def _show_fields(documented: Class, kind: type[BaseModel]) -> None:
    documented.members.pop("__init__", None)  # it takes **fields
    for name, member in documented.members.items():
        if isinstance(member, Attribute) and name in kind.model_fields:
            _complete(member, kind.model_fields[name])


def _complete(attribute: Attribute, field: FieldInfo) -> None:
    attribute.value = None if field.is_required() else repr(field.get_default(call_default_factory=True))
    if field.alias is not None and attribute.docstring is not None:
        attribute.docstring.value += f" Also called `{field.alias}`."


def _link_errors(documented: Object, errors: Module) -> None:
    """Makes links of the errors in `Raises`, whose names the module of a function often does not import."""
    for section in documented.docstring.parsed if documented.docstring else ():
        if section.kind is DocstringSectionKind.raises:
            for raised in section.value:
                if str(raised.annotation) in errors.members:
                    raised.annotation = ExprName(str(raised.annotation), parent=errors)
