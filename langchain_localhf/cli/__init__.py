"""The command line: `localhf`. Data goes to stdout, everything else to stderr.

Nothing here is imported before a command runs but click, so that `localhf --help` answers at once.
"""

from langchain_localhf.cli.commands import main

__all__ = ["main"]
