"""Chat templates, rendered as transformers renders them, without transformers."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2.parser import Parser

# Stands behind the message to continue, so that its end is found in the rendered text.
_END = "CONTINUE_FINAL_MESSAGE_TAG "
# Names under which templates look for what a model said to itself, the usual one first.
_REASONING = ("reasoning_content", "thinking", "reasoning")


class ChatTemplate:
    """A model's own template for conversations.

    Args:
        source: The template, in Jinja.
        special_tokens: What templates may refer to: `bos_token`, `eos_token` and the like.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        self.source = source
        self._special_tokens = dict(special_tokens)
        self._template = _environment().from_string(source)

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]], variables: Mapping[str, Any]
    ) -> str:
        """Writes a conversation as a prompt.

        Raises:
            TemplateError: The template refuses it.
            ValueError: The last message cannot be continued.
            TypeError: The template takes something for what it is not.
        """
        chat, settings = [_with_reasoning(message) for message in messages], dict(variables)
        continued = settings.pop("continue_final_message", False)
        settings.setdefault("add_generation_prompt", not continued)
        if continued and settings["add_generation_prompt"]:
            msg = "a message cannot be continued and followed by the start of another one"
            raise ValueError(msg)
        final = _marked(chat) if continued else ""
        text = self._template.render(
            **{"documents": None, **self._special_tokens, **settings}, messages=chat, tools=list(tools) or None
        )
        return _cut_behind(final, text) if continued else text


def _with_reasoning(message: Mapping[str, Any]) -> dict[str, Any]:
    said = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    return dict(message) if said is None else {"thinking": said, **message, "reasoning_content": said}


def _marked(chat: list[dict[str, Any]]) -> str:
    """Marks the end of the last message, and gives its text."""
    content = chat[-1].get("content") if chat else None
    if isinstance(content, str):
        chat[-1]["content"] = content + _END
        return content
    blocks = [dict(block) for block in content or ()]
    for block in reversed(blocks):
        if "text" in block:
            text = str(block["text"])
            block["text"] = text + _END
            chat[-1]["content"] = blocks
            return text
    msg = "the last message has no text to continue"
    raise ValueError(msg)


def _cut_behind(final: str, text: str) -> str:
    mark = _END.strip()
    if final.strip() not in text or mark not in text:
        msg = "the last message, which is to be continued, does not appear in what the template writes"
        raise ValueError(msg)
    place = text.rindex(mark)
    # Some templates strip what they write, and then the end of the message was stripped with the mark.
    return text[:place] if text[place : place + len(_END)] == _END else text[:place].rstrip()


class _Generation(Extension):
    """`{% generation %}` marks what a model wrote, for training; here it is nothing but its content."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControlExtension]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)  # noqa: DTZ005 - the user's own day
    return environment


def _to_json(
    value: object,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002 - as templates call it
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
