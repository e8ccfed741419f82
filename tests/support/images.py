"""Images without Docker: carries out a Dockerfile in a folder, for as much of the language as the examples use.

Every `RUN` runs in a container (see `containers.py`) with the words of the file; only what `pip` installs is linked
from this machine (see `installing.py`), and one user owns everything.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from support.containers import PYTHON, Image, container
from support.installing import install

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_COMMANDS = {"ENTRYPOINT": "entrypoint", "CMD": "command", "HEALTHCHECK": "healthcheck"}


@dataclass(frozen=True)
class Instruction:
    """A line of a Dockerfile: `COPY --from=model /models /models`."""

    word: str
    options: Mapping[str, str]
    rest: str

    @classmethod
    def read(cls, line: str) -> Instruction:
        """Reads a line whose continuations are joined."""
        word, *parts = line.split(maxsplit=1)
        rest, options = " ".join(parts), {}
        while option := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            options[option[1]] = option[2]
            rest = rest[option.end() :]
        return cls(word, options, rest.strip())


def instructions(dockerfile: Path) -> list[Instruction]:
    """The instructions of a Dockerfile."""
    lines = [line for line in dockerfile.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [Instruction.read(line) for line in "\n".join(lines).replace("\\\n", "").splitlines() if line.strip()]


@dataclass
class Builder:
    """Builds images in folders, as `docker build` does.

    Args:
        folder: Where images are made.
        images: Images that were built before, by their names.
        arguments: What `--build-arg` says.
    """

    folder: Path
    images: dict[str, Image] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)

    def build(self, dockerfile: Path, *, target: str = "") -> Image:
        """Carries out a Dockerfile up to a stage, by default the last; its folder is the context."""
        arguments: dict[str, str] = {}
        stages: dict[str, Image] = {}
        current = ""
        for line in instructions(dockerfile):
            if line.word == "FROM":
                if target and current == target:
                    break
                base, _, name = line.rest.partition(" AS ")
                current = name or str(len(stages))
                stages[current] = self._from(base, stages)
            elif not current:
                name, _, default = line.rest.partition("=")
                arguments[name] = self.arguments.get(name, default)
            else:
                stages[current] = self._step(line, stages[current], dockerfile.parent, arguments, stages)
        return stages[current]

    def _from(self, base: str, stages: Mapping[str, Image]) -> Image:
        root = self.folder / f"image-{len(list(self.folder.iterdir()))}"
        if found := {**self.images, **stages}.get(base):
            return found.copy(root)
        assert re.fullmatch(r"python:3\.\d+-slim", base), base
        return Image.python(root)

    @staticmethod
    def _step(
        line: Instruction, image: Image, context: Path, arguments: Mapping[str, str], stages: Mapping[str, Image]
    ) -> Image:
        """What an instruction makes of an image."""
        changes: dict[str, Any] = {}
        match line.word:
            case "ARG":
                changes["arguments"] = {**image.arguments, line.rest: arguments[line.rest]}
            case "ENV":
                pairs = (pair.split("=", 1) for pair in shlex.split(line.rest))
                changes["environment"] = {**image.environment, **dict(pairs)}
            case "WORKDIR":
                image.path(line.rest).mkdir(parents=True, exist_ok=True)
                changes["workdir"] = line.rest
            case "USER":
                changes["user"] = int(line.rest.partition(":")[0].replace("root", "0"))
            case "ENTRYPOINT" | "CMD" | "HEALTHCHECK":
                changes[_COMMANDS[line.word]] = json.loads(line.rest.removeprefix("CMD "))
            case "COPY":
                _copy(line, image, stages[line.options["from"]].root if "from" in line.options else context)
            case "RUN":
                _run(line, image, context)
            case _:
                assert line.word == "EXPOSE", line
        return replace(image, **changes)


def _copy(line: Instruction, image: Image, source: Path) -> None:
    *patterns, stated = line.rest.split()
    found = [path for pattern in patterns for path in sorted(source.glob(pattern.lstrip("/")))]
    assert found, f"nothing to copy: {line}"
    target = image.path(stated)
    for path in found:
        if path.is_dir():
            shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True)
            continue
        into = target / path.name if stated.endswith("/") or target.is_dir() else target
        into.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, into)
        if "chmod" in line.options:
            into.chmod(int(line.options["chmod"], 8))


def _run(line: Instruction, image: Image, context: Path) -> None:
    """Runs a RUN line, with the context where it is mounted; what `pip` installs is linked."""
    kind, _, mounted = line.options.get("mount", "").partition(",target=")
    if mounted:
        assert kind == "type=bind", line
        shutil.copytree(context, image.path(mounted))
    if line.rest.startswith("pip install "):
        for command in line.rest.split("&&"):
            _pip(shlex.split(command), image)
    else:
        # A namespace that anybody may make has one user, who owns everything.
        command = re.sub(r" --(owner|group)=\d+", "", line.rest)
        with container(image, network=True, read_only=False) as here:
            done = here.run(["/bin/sh", "-ec", command], build=True)
        assert done.returncode == 0, done.stderr
    if mounted:
        shutil.rmtree(image.path(mounted))


def _pip(words: Sequence[str], image: Image) -> None:
    assert words[:2] == ["pip", "install"], words
    [stated] = [word for word, before in zip(words[2:], words[1:], strict=False) if not _is_option(word, before)]
    for name, value in image.arguments.items():
        stated = stated.replace(f"${{{name}}}", value)
    # A wheel of this project is what the tests run anyway.
    requirement = re.sub(r".*/langchain_localhf-[^/]*\.whl", "langchain-localhf", stated)
    python = image.path(PYTHON)
    install(requirement, next(python.glob("lib/python3.*/site-packages")), python / "bin")


def _is_option(word: str, before: str) -> bool:
    return word.startswith("-") or before == "--index-url"
