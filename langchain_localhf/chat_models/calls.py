"""Makes calls of tools of the text that a model has written between the marks of a call."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from langchain_localhf.engines.generation.reply import BrokenToolCall, ToolCall

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from langchain_localhf.chat_models.formats import ReplyFormat
    from langchain_localhf.engines.generation.reply import ReplyPart

_NAME = re.compile(r'"name"\s*:\s*"([^"\\]+)"')
_UNQUOTED_KEY = re.compile(r"([{,]\s*)([^\s\"{}\[\],:]+)\s*:")
_PYTHON = {"True": True, "False": False, "None": None}


class End(NamedTuple):
    """Where a call ends: without its closing mark, and with it."""

    body: int
    mark: int


class CallReader:
    """Makes calls of text.

    Args:
        form: How the model's family writes.
        tools: The functions that were offered, in OpenAI's form.
    """

    def __init__(self, form: ReplyFormat, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        functions = [tool.get("function", tool) for tool in tools]
        self._form = form
        self._header = re.compile(form.header) if form.header else None
        self._properties = {f["name"]: (f.get("parameters") or {}).get("properties") or {} for f in functions}
        starts = [f'"name":{json.dumps(name, ensure_ascii=False)}' for name in self._properties]
        self._starts = [prefix + start for prefix in ("{", '{"type":"function",') for start in starts]

    def begins(self, text: str) -> bool | None:
        """Whether a text begins as the JSON of a call of one of the tools; None if it cannot become one."""
        compact = "".join(text.split())
        if any(compact.startswith(start) for start in self._starts):
            return True
        return False if any(start.startswith(compact) for start in self._starts) else None

    def has_arguments(self, text: str) -> bool:
        """Whether a JSON object names its arguments, as a call does and other JSON does not."""
        value = _DECODER.decode(text)
        return "arguments" in value or "parameters" in value

    def end(self, text: str, *, final: bool) -> End | None:
        """Where the call at the start of a text ends; None if that is still to come.

        Args:
            text: What stands behind the mark that opens it.
            final: Whether no text comes any more.
        """
        close, everything = self._form.close, End(len(text), len(text))
        if not close:
            end = self._end_of_json(text)
            return End(end, end) if end is not None else everything if final else None
        place = first = text.find(close)
        while place >= 0 and self._in_quotes(text[:place]):
            place = text.find(close, place + 1)
        if final and place < 0:  # the quotes are wrong
            place = first
        if place < 0:
            return everything if final else None
        return End(place, place + len(close))

    def read(self, body: str, *, written: str) -> list[ReplyPart]:
        """The calls in a text.

        Args:
            body: The text.
            written: The same with its marks, to be given if it holds no call.
        """
        text = body.strip()
        try:
            return [_tool_call(name, arguments) for name, arguments in self._named(text)]
        except (ValueError, RecursionError) as error:
            found = _NAME.search(text) if text.startswith(("{", "[")) else self._header and self._header.match(text)
            return [BrokenToolCall(written, error=str(error), name=found.group(1) if found else None)]

    def _named(self, text: str) -> list[tuple[object, object]]:
        """The names and arguments in a text."""
        if text.startswith(("{", "[")):
            value = _DECODER.decode(text)
            items = value if isinstance(value, list) else [value]
            if not items or not all(isinstance(item, dict) for item in items):
                raise ValueError("this is no object with a name and arguments")
            return [(item.get("name"), item.get("arguments", item.get("parameters", {}))) for item in items]
        header = self._header.match(text) if self._header is not None else None
        if header is None:
            raise ValueError("this has no name and no arguments")
        name, rest = header.group(1), text[header.end() :]
        if self._form.argument and not rest.startswith("{"):
            return [(name, self._marked_arguments(name, rest))]
        return [(name, self._json_arguments(rest))]

    def _marked_arguments(self, name: str, text: str) -> dict[str, object]:
        argument = re.compile(self._form.argument, re.DOTALL)
        if left := argument.sub("", text).replace("</function>", "").strip():
            raise ValueError(f"this is no argument: {left}")
        properties = self._properties.get(name, {})
        return {key: _typed(value, properties.get(key, {})) for key, value in argument.findall(text)}

    def _json_arguments(self, text: str) -> object:
        try:
            value, end = _DECODER.raw_decode(text)
        except ValueError:
            if not self._form.quote:
                raise
            text = _with_quotes(text, self._form.quote)
            value, end = _DECODER.raw_decode(text)
        if left := text[end:].strip().strip("`"):
            raise ValueError(f"this stands behind the arguments: {left}")
        return value

    def _end_of_json(self, text: str) -> int | None:
        start = len(text) - len(text.lstrip())
        if not text.startswith(("{", "["), start):
            header = self._header.match(text, start) if self._header is not None else None
            if header is None:
                return None
            start = header.end()
        try:
            return int(_DECODER.raw_decode(text, start)[1])
        except (ValueError, RecursionError):
            return None

    def _in_quotes(self, text: str) -> bool:
        """Whether a text ends inside quotes, so that what looks like a mark belongs to an argument."""
        if self._form.argument and not text.lstrip().startswith(("{", "[")):
            return False
        return re.sub(r"\\.", "", text, flags=re.DOTALL).count('"') % 2 == 1


def _tool_call(name: object, arguments: object) -> ToolCall:
    if not isinstance(name, str) or not name:
        raise ValueError("this has no name")
    if isinstance(arguments, str):  # some models write JSON into JSON
        arguments = _DECODER.decode(arguments or "{}")
    arguments = {} if arguments is None else arguments
    if not isinstance(arguments, dict):
        raise ValueError(f"its arguments are {type(arguments).__name__}, and not an object")  # noqa: TRY004 - of a text
    return ToolCall(name, json.dumps(arguments, ensure_ascii=False))


def _typed(text: str, schema: Mapping[str, Any]) -> object:
    """An argument that was written without quotes, as its schema says what it is."""
    types = {kind for part in (schema, *schema.get("anyOf", ()), *schema.get("oneOf", ())) for kind in _types(part)}
    if "string" in types and not (text == "null" and "null" in types):
        return text
    if not types and not text.startswith(("{", "[")):
        return text
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return _PYTHON.get(text, text)


def _types(schema: Mapping[str, Any]) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _with_quotes(text: str, quote: str) -> str:
    """JSON of what has `quote` around its texts, and nothing around its keys."""
    pieces = text.split(quote)
    return "".join(
        json.dumps(piece) if index % 2 else _UNQUOTED_KEY.sub(r'\1"\2":', piece) for index, piece in enumerate(pieces)
    )


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


# Line breaks in texts are no JSON either, but what they mean is clear, and models write them.
_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse)
