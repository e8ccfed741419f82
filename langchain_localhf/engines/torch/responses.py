"""Reads a reply as its tokenizer's own `response_template` says, with the parser of transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from langchain_localhf.engines.generation.reply import BrokenToolCall, Content, Reasoning, ToolCall
from langchain_localhf.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from langchain_localhf.engines.generation.reply import ReplyPart

# The fields of a message that are read, by the names that templates give them; what is in others is for nobody here.
_TEXTS: dict[str, type[Content | Reasoning]] = {
    "content": Content,
    "reasoning_content": Reasoning,
    "reasoning": Reasoning,
    "thinking": Reasoning,
}
_CALLS = "tool_calls"


def available() -> bool:
    """Whether this transformers can read by a template; older ones cannot, and know no `response_template`."""
    return find_spec("transformers.utils.chat_parsing") is not None


class TemplateReader:
    """Reads one reply; a `ReplyReader`.

    Args:
        template: What the tokenizer says about replies.
        prompt: The rendered chat, whose end may have written the start of the reply.
        tools: The functions that were offered, in OpenAI's form.

    Raises:
        CheckpointError: The template cannot be read.
    """

    def __init__(self, template: Mapping[str, Any], *, prompt: str, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        self._template = _without_required_fields(template)
        self._tools: list[Any] = list(tools)
        try:
            self._parser = self._new_parser("")
        except (ValueError, AttributeError) as error:
            msg = f"the tokenizer's response_template cannot be read: {error}"
            raise CheckpointError(msg, hint="pull the model again, or delete response_template") from error
        try:
            self._parser = self._new_parser(prompt)
        except (ValueError, KeyError, RecursionError):
            # The parser has taken the whole conversation for the start of the reply, and there is an odd call in it.
            self._parser = self._new_parser("")
        # What was written since the last part: the call that is being read, with its mark.
        self._written = ""
        self._space: str | None = None

    @property
    def markers(self) -> tuple[str, ...]:
        """Texts that the reader needs to see, also where they are special tokens."""
        return tuple(text.replace("\\", "") for text in _strings(self._template))

    def feed(self, text: str) -> list[ReplyPart]:
        """Takes the next piece of text, and gives what is now certain."""
        # One by one: an error costs all that the parser would have given with it, and so nothing but the call.
        return _together(part for character in text for part in self._feed(character))

    def finish(self) -> list[ReplyPart]:
        """Gives the rest, when no text comes any more."""
        try:
            return self._parts(self._parser.finalize()[1])
        except (ValueError, KeyError, RecursionError) as error:
            return [self._broken(error)]

    def _feed(self, character: str) -> list[ReplyPart]:
        self._written += character
        try:
            return self._parts(self._parser.feed(character))
        except (ValueError, KeyError, RecursionError) as error:
            # The parser is still inside the broken call; another one goes on behind it.
            self._parser = self._new_parser("")
            return [self._broken(error)]

    def _parts(self, events: Sequence[Mapping[str, Any]]) -> list[ReplyPart]:
        parts: list[ReplyPart] = []
        for event in events:
            kind, field = event["type"], event["field"]
            if kind == "region_open":
                self._space = None
            elif kind == "region_chunk" and field in _TEXTS and not event["dirty"]:
                parts += self._text(_TEXTS[field], event["text"])
            elif kind == "region_close" and field == _CALLS:
                values = event["value"] if isinstance(event["value"], list) else [event["value"]]
                parts += [self._call(value) for value in values]
        if events and events[-1]["type"] == "region_close":  # by a mark of its own, and not by one that opens a call
            self._written = ""
        return parts

    def _text(self, part: type[Content | Reasoning], text: str) -> list[ReplyPart]:
        """What a region holds, without the whitespace at its edges."""
        body = text.strip()
        self._written = self._written.partition(text)[2]
        if not body:
            self._space = None if self._space is None else self._space + text
            return []
        before = "" if self._space is None else self._space + text[: len(text) - len(text.lstrip())]
        self._space = text[len(text.rstrip()) :]
        return [part(before + body)]

    def _call(self, value: object) -> ReplyPart:
        function = value.get("function", value) if isinstance(value, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name:
            return BrokenToolCall(json.dumps(value, ensure_ascii=False, default=str), error="this has no name")
        arguments = function.get("arguments", function.get("parameters")) or {}
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except ValueError as error:
                return BrokenToolCall(arguments, error=str(error), name=name)
        if not isinstance(arguments, dict):
            kind = type(arguments).__name__
            return BrokenToolCall(
                json.dumps(arguments), error=f"its arguments are {kind}, and not an object", name=name
            )
        return ToolCall(name, json.dumps(arguments, ensure_ascii=False))

    def _broken(self, error: Exception) -> BrokenToolCall:
        written, self._written = self._written.strip(), ""
        return BrokenToolCall(written, error=str(error))

    def _new_parser(self, prefix: str) -> Any:  # noqa: ANN401 - a class that not every transformers has
        from transformers.utils.chat_parsing import ResponseParser  # noqa: PLC0415 - see `available`

        return ResponseParser(self._template, prefix=prefix, tools=self._tools)


def _without_required_fields(template: Mapping[str, Any]) -> dict[str, Any]:
    """The template, content with a reply that was cut off: what there is of it should be read."""
    fields = template.get("fields")
    if not isinstance(fields, dict):
        return dict(template)
    loose = {name: {**field, "optional": True} if isinstance(field, dict) else field for name, field in fields.items()}
    return {**template, "fields": loose}


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _together(parts: Iterable[ReplyPart]) -> list[ReplyPart]:
    """The same parts, with neighbours of one kind of text as one."""
    joined: list[ReplyPart] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Content | Reasoning) and type(part) is type(last):
            joined[-1] = replace(part, text=last.text + part.text)
        else:
            joined.append(part)
    return joined
