"""Containers without Docker: namespaces with the folder of an image as their root.

What runs in one has the image's variables, user and packages, a file system that is mounted read-only, and no network
but its own loopback. The system's programs are those of this machine. `images.py` makes such a folder of a Dockerfile.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SUPPORT = Path(__file__).parent
PYTHON = "/opt/python"
# What a container sees of this machine: its programs, Python, the packages, and this project.
_HOST = tuple(
    dict.fromkeys(("/usr", "/etc", sys.base_prefix, sysconfig.get_path("purelib"), str(_SUPPORT.parent.parent)))
)
_OF_ROOT = ("bin", "lib", "lib32", "lib64", "libx32", "sbin")
_OF_THE_HUB = ("HF_ENDPOINT", "HF_HUB_DISABLE_TELEMETRY")
PATIENCE_SECONDS = 120


@cache
def reason_against_namespaces() -> str:
    """Why this user may not make namespaces; nothing if that is allowed."""
    command = ["unshare", "--map-root-user", "--mount", "--net", "mount", "--rbind", "/usr", "/usr"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    except FileNotFoundError:
        return "there is no unshare"
    return done.stderr.strip() if done.returncode else ""


def require_namespaces() -> None:
    """Skips a test where this user may not make namespaces."""
    if reason := reason_against_namespaces():
        pytest.skip(f"no namespaces: {reason}")


@dataclass(frozen=True)
class Image:
    """An image.

    Attributes:
        root: The folder that stands for its root.
        environment: The variables of `ENV`.
        arguments: Those of `ARG`, which only its `RUN` lines see.
        workdir: Where its commands start.
        user: The number of its user.
        entrypoint: What comes before every command.
        command: What it runs if nothing else is said.
        healthcheck: The command that says whether a container is well.
    """

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: int = 0
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    healthcheck: Sequence[str] = ()

    @classmethod
    def python(cls, root: Path) -> Image:
        """An image with Python and nothing installed, as `python:3.11-slim` is."""
        root.mkdir(parents=True)
        (root / "tmp").mkdir(mode=0o1777)
        for name in _OF_ROOT:
            if (link := Path("/") / name).is_symlink():
                (root / name).symlink_to(link.readlink())
        venv.create(root / PYTHON[1:], symlinks=True)
        return cls(root, {"PATH": f"{PYTHON}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "OMP_WAIT_POLICY": "PASSIVE"})

    def copy(self, root: Path) -> Image:
        """The image again, in a folder of its own, to build upon."""
        return replace(self, root=shutil.copytree(self.root, root, symlinks=True), arguments={})

    def path(self, inside: str) -> Path:
        """Where a path of the image is on this machine."""
        return self.root / os.path.normpath(f"/{self.workdir}/{inside}" if inside[0] != "/" else inside).lstrip("/")


@dataclass(frozen=True)
class Container:
    """Namespaces with an image's root, held by a process of their own."""

    image: Image
    process: subprocess.Popen[str]

    def popen(self, command: Sequence[str], *, build: bool = False) -> subprocess.Popen[str]:
        """Starts a command as `docker exec` does; with `build`, as a RUN line, which finds the hub of the test."""
        image, hub = self.image, {name: os.environ[name] for name in _OF_THE_HUB if name in os.environ}
        enter = ["--target", str(self.process.pid), "--user", "--mount", "--net", "--preserve-credentials"]
        user = ["--user", f"--map-user={image.user}", f"--map-group={image.user}"]
        return subprocess.Popen(  # noqa: S603 - our own
            [
                *(str(shutil.which("nsenter")), *enter, str(shutil.which("unshare")), *user),
                *(f"--root={image.root}", f"--wd={image.workdir}", *command),
            ],
            env={**image.environment, **({**image.arguments, **hub} if build else {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: Sequence[str], *, build: bool = False) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        with self.popen(command, build=build) as process:
            printed, logged = process.communicate(timeout=PATIENCE_SECONDS)
        return subprocess.CompletedProcess(list(command), process.returncode, printed, logged)

    def is_healthy(self) -> bool:
        """What the image's HEALTHCHECK says."""
        assert self.image.healthcheck
        return self.run(self.image.healthcheck).returncode == 0

    @contextlib.contextmanager
    def service(self) -> Iterator[subprocess.Popen[str]]:
        """Runs the image's own command until the context ends, and holds to it that SIGTERM ends it well."""
        with self.popen([*self.image.entrypoint, *self.image.command]) as process:
            try:
                yield process
            finally:
                process.terminate()
                process.wait(PATIENCE_SECONDS)
        assert process.returncode == 0


@contextlib.contextmanager
def container(
    image: Image, *, network: bool = False, read_only: bool = True, tmpfs: Sequence[str] = ()
) -> Iterator[Container]:
    """Makes a container; without a network it has its own loopback and nothing else."""
    alone = [] if network else ["--net"]
    loopback = [] if network else [sys.executable, str(_SUPPORT / "loopback.py")]
    host = [path for path in _HOST if not any(Path(path).is_relative_to(other) for other in _HOST if other != path)]
    options = [f"read-only={read_only:d}", *(f"tmpfs={path}" for path in tmpfs), *(f"host={path}" for path in host)]
    command = ["unshare", "--map-root-user", "--mount", *alone, *loopback, sys.executable]
    with subprocess.Popen(  # noqa: S603 - our own
        [*command, str(_SUPPORT / "container_root.py"), str(image.root), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Container(image, process)


def unreadable(folder: Path) -> list[str]:
    """What below a folder only its owner may read, which a container that belongs to one user would not notice."""
    paths = (path for path in (folder, *folder.rglob("*")) if not path.is_symlink())
    return [str(path) for path in paths if ~path.stat().st_mode & (0o005 if path.is_dir() else 0o004)]
