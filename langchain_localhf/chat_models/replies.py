"""Reads a chat model's reply while it is written: content, reasoning and calls of tools, told apart by their marks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from langchain_localhf.chat_models.calls import CallReader
from langchain_localhf.engines.generation.reply import Content, Reasoning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_localhf.chat_models.formats import ReplyFormat
    from langchain_localhf.engines.generation.reply import ReplyPart


class MarkedReplyReader:
    """Reads one reply, in pieces of any size; what it gives does not depend on where they are cut.

    No mark is ever content, nor is the whitespace between a mark and the text before or behind it. A call is given
    when it is complete. What begins as a call and is none is given as that, at the latest by `finish`.

    Args:
        form: How the model's family writes.
        tools: The functions that were offered, in OpenAI's form.
        reasoning: Whether the reply begins inside reasoning.
    """

    def __init__(self, form: ReplyFormat, *, tools: Sequence[Mapping[str, Any]] = (), reasoning: bool = False) -> None:
        self._form = form
        self._calls = CallReader(form, tools)
        self._state: Literal["content", "reasoning", "call"] = "reasoning" if reasoning else "content"
        self._marks = tuple(mark for mark in (*form.opens, form.close, *form.reasoning, *form.ignored) if mark)
        self._rest = ""
        self._open = ""
        self._may_be_bare = form.bare
        self._content = _Trimmed(Content)
        self._reasoning = _Trimmed(Reasoning)
        self._reasoning.mark()

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that the reader needs to see, also where they are special tokens."""
        return self._form.markers

    def feed(self, text: str) -> list[ReplyPart]:
        """Takes the next piece of text, and gives what is now certain."""
        self._rest += text
        return self._read(final=False)

    def finish(self) -> list[ReplyPart]:
        """Gives the rest, when no text comes any more."""
        return [*self._read(final=True), *self._content.finish()]

    def _read(self, *, final: bool) -> list[ReplyPart]:
        parts: list[ReplyPart] = []
        before = None
        while self._rest and (self._state, self._rest) != before:
            before = (self._state, self._rest)
            parts += self._step(final=final)
        if final and self._state == "call":  # a mark, and nothing behind it
            parts += self._read_call(final=final)
        return parts

    def _step(self, *, final: bool) -> list[ReplyPart]:
        if self._state == "call":
            return self._read_call(final=final)
        if self._state == "reasoning":
            return self._read_reasoning(final=final)
        if self._may_be_bare and (bare := self._read_bare(final=final)) is not None:
            return bare
        return self._read_content(final=final)

    def _read_content(self, *, final: bool) -> list[ReplyPart]:
        text, mark, self._rest = _split(self._rest, self._marks, final=final)
        parts = self._content.write(text)
        if mark:
            self._content.mark()
            self._may_be_bare = self._form.bare
        if mark in self._form.opens:
            self._state, self._open = "call", mark
        elif mark == self._form.reasoning[0]:
            self._state = "reasoning"
        return parts

    def _read_reasoning(self, *, final: bool) -> list[ReplyPart]:
        # Some models open again what their chat template has opened.
        text, mark, self._rest = _split(self._rest, self._form.reasoning, final=final)
        parts = self._reasoning.write(text)
        if mark:
            self._reasoning.mark()
        if mark == self._form.reasoning[1]:
            self._content.mark()
            self._state = "content"
        return parts

    def _read_call(self, *, final: bool) -> list[ReplyPart]:
        end = self._calls.end(self._rest, final=final)
        if end is None:
            return []
        body, written = self._rest[: end.body], self._open + self._rest[: end.mark]
        self._rest, self._state = self._rest[end.mark :], "content"
        return self._calls.read(body, written=written)

    def _read_bare(self, *, final: bool) -> list[ReplyPart] | None:
        """A call without a mark, or nothing as long as there may be one; None if there is none here."""
        text = self._rest.lstrip(" \t\r\n;" if self._content.at_mark else None)
        if not text and not final:
            return []
        begins = self._calls.begins(text)
        end = self._calls.end(text, final=False) if begins is not None else None
        if begins is not None and end is None and not final:
            return []
        if begins and (end is None or self._calls.has_arguments(text[: end.body])):
            body = text if end is None else text[: end.body]
            self._rest = text[len(body) :]
            self._content.mark()
            return self._calls.read(body, written=body)
        self._may_be_bare = False
        return None


class _Trimmed:
    """Text without the whitespace next to marks, unless it is all that lies between two pieces of text.

    Args:
        part: What the pieces are.
    """

    def __init__(self, part: type[Content | Reasoning]) -> None:
        self._part = part
        self._wrote = False
        self._space = ""
        # The whitespace before the last mark; None if no mark came since the last piece.
        self._before: str | None = None

    @property
    def at_mark(self) -> bool:
        """Whether only whitespace came since the last mark."""
        return self._before is not None

    def write(self, text: str) -> list[ReplyPart]:
        body = text.strip()
        if not body:
            self._space += text
            return []
        space = self._space + text[: len(text) - len(text.lstrip())]
        if self._before is not None:
            space = (self._before or space) if self._wrote else ""
        self._space, self._before, self._wrote = text[len(text.rstrip()) :], None, True
        return [self._part(space + body)]

    def mark(self) -> None:
        self._before = self._before or self._space
        self._space = ""

    def finish(self) -> list[ReplyPart]:
        space, self._space = self._space, ""
        return [self._part(space)] if space and not self.at_mark else []


def _split(text: str, marks: Sequence[str], *, final: bool) -> tuple[str, str, str]:
    """The text before the first mark, the mark, and the rest; without a mark, the rest is what may become one."""
    certain = len(text)
    if not final:
        longest = min(len(text), max(map(len, marks)) - 1)
        starts = (text[-n:] for n in range(longest, 0, -1))
        certain -= next((len(end) for end in starts if any(m.startswith(end) and m != end for m in marks)), 0)
    found = min(((place, -len(mark), mark) for mark in marks if (place := text.find(mark)) >= 0), default=None)
    if found is not None and found[0] < certain:
        place, _, mark = found
        return text[:place], mark, text[place + len(mark) :]
    return text[:certain], "", text[certain:]
