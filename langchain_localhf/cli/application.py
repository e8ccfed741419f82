"""How a run of the command line ends: one table of exit codes, one form of error, never a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from langchain_localhf.cli.output import say
from langchain_localhf.errors import LocalHFError

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE = 0
FAILED = 1
MISUSED = 2
INTERRUPTED = 130

# The first class that fits gives the exit code. What is not listed is a mistake in this package.
_EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (LocalHFError, FAILED),
    (click.UsageError, MISUSED),
    (click.ClickException, FAILED),
    (click.Abort, INTERRUPTED),
    (OSError, FAILED),
)
_BUG = "this is a mistake in localhf; LOCALHF_DEBUG=1 shows where it is, please report it"


class Application(click.Group):
    """A group of commands whose every error ends in a message and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ANN401 - click's own signature
        """Runs the command line and ends the process."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
            _flush()
        except Exception as error:  # noqa: BLE001 - the last place where an error can be told in words
            code = _ended_by(error)
        sys.exit(code if isinstance(code, int) else DONE)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the arguments; none at all ask for help."""
        return super().parse_args(ctx, args or ["--help"])


def _ended_by(error: Exception) -> int:
    if isinstance(error, BrokenPipeError) or getattr(error, "errno", None) == errno.EPIPE:
        # Whoever read the output has seen enough. Python must not try to flush the rest when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    if os.environ.get("LOCALHF_DEBUG") == "1":
        raise error
    if not isinstance(error, click.Abort):
        say(_in_words(error))
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), FAILED)


def _in_words(error: Exception) -> str:
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "localhf"
        return f"error: {error.format_message()}\n\nhint: {command} --help"
    if isinstance(error, click.ClickException):
        return f"error: {error.format_message()}"
    if isinstance(error, LocalHFError):
        return f"error: {error}"
    if isinstance(error, OSError):
        return f"error: {error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    return f"error: {type(error).__name__}: {error}\n\nhint: {_BUG}"


def _flush() -> None:
    """Meets a closed pipe here, where it can be handled, and not when Python ends."""
    if sys.stdout is not None:
        sys.stdout.flush()


@contextlib.contextmanager
def interrupted_at_once() -> Iterator[None]:
    """Lets Ctrl-C end the process at once, though threads are in the middle of a download.

    Nothing needs tidying up: what a pull leaves behind is what the next one goes on with.
    """

    def leave(_signal: int, _frame: object) -> None:
        os.write(2, b"\n")
        os._exit(INTERRUPTED)

    before = signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
