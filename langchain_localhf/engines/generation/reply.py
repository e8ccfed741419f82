"""What a chat model's reply is made of, told apart while it is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Content:
    """Text for whoever asked."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """Text of the model to itself."""

    text: str


@dataclass(frozen=True)
class ToolCall:
    """A function that the model wants to have called.

    Attributes:
        name: The function.
        arguments: Its arguments, as the text of a JSON object.
    """

    name: str
    arguments: str


@dataclass(frozen=True)
class BrokenToolCall:
    """What looks like a call of a function and is none.

    Attributes:
        text: What the model wrote.
        error: What is wrong with it.
        name: The function, as far as that can be told.
    """

    text: str
    error: str
    name: str | None = None


ReplyPart = Content | Reasoning | ToolCall | BrokenToolCall


class ReplyReader(Protocol):
    """Reads one reply, piece by piece as it is written."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that it needs to see, also where they are special tokens."""

    def feed(self, text: str) -> list[ReplyPart]:
        """Takes the next piece of text, and gives what is now certain."""

    def finish(self) -> list[ReplyPart]:
        """Gives the rest, when no text comes any more."""
