"""Imports Python modules from memory: what runs is what was read, whatever happens to the file meanwhile."""

from __future__ import annotations

import importlib.abc
import importlib.util
import linecache
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from importlib.machinery import ModuleSpec
    from pathlib import Path
    from types import ModuleType


@dataclass(frozen=True)
class SourceFile:
    """One file of code, as it was when it was read.

    Attributes:
        path: Where it was.
        content: What was in it.
    """

    path: Path
    content: bytes


class MemoryImporter(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and runs modules whose source it was given; knows nothing below any other name.

    Args:
        namespace: The first part of the name of every module.
        builtins: What the modules find as their built-ins, in place of Python's own.
        prepare: Called with every module after it has run.
    """

    def __init__(
        self, namespace: str, *, builtins: Mapping[str, object], prepare: Callable[[ModuleType], None]
    ) -> None:
        self.files: dict[str, SourceFile] = {}
        self._namespace = namespace
        self._packages = {namespace}
        self._builtins = builtins
        self._prepare = prepare

    def add(self, name: str, file: SourceFile) -> None:
        """Makes a file importable as `name`, and whatever lies above it as packages.

        A name keeps its first content; where that lies may change, as when a model that was checked is put into place.
        """
        if name.endswith(".__init__"):
            name = name.removesuffix(".__init__")
            self._packages.add(name)
        self.files[name] = replace(self.files.get(name, file), path=file.path)
        if name in sys.modules:
            sys.modules[name].__file__ = str(file.path)
        while "." in name:
            name = name.rpartition(".")[0]
            self._packages.add(name)
        if self not in sys.meta_path:
            sys.meta_path.append(self)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the name alone says it
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if fullname not in self.files and fullname not in self._packages:
            return None
        file = self.files.get(fullname)
        origin = str(file.path) if file else self._namespace
        spec = importlib.util.spec_from_loader(fullname, self, origin=origin, is_package=fullname in self._packages)
        if spec is not None and file is not None:
            spec.has_location = True  # gives the module its __file__
        return spec

    def is_package(self, fullname: str) -> bool:
        """See `importlib.abc.InspectLoader`."""
        return fullname in self._packages

    def get_source(self, fullname: str) -> str:
        """See `importlib.abc.InspectLoader`."""
        file = self.files.get(fullname)
        return importlib.util.decode_source(file.content) if file else ""

    def exec_module(self, module: ModuleType) -> None:
        """Runs a module from its source in memory."""
        name = module.__name__
        source = self.get_source(name)
        # Not the file's own name: tracebacks and torch.jit would read the file again, whatever it holds by then.
        filename = f"{name.replace('.', '/')}.py in memory"
        linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
        # A module that brings its own built-ins keeps them: see "exec" in Python's documentation.
        module.__dict__["__builtins__"] = self._builtins
        exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - the user trusts it
        self._prepare(module)
