"""LangChain's messages in the form that chat templates take, and the images in them."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_localhf.errors import InputError, NetworkRefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TemplateMessage = dict[str, Any]

_ROLES = (
    (SystemMessage, "system"),
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
    (ToolMessage, "tool"),
    (FunctionMessage, "tool"),
)
_TEXT_BLOCKS = {"text", "input_text", "output_text", "text-plain"}
_IMAGE_BLOCKS = {"image", "image_url", "input_image"}
# What lies beside the text of an AIMessage; its tool calls and its reasoning are read from elsewhere in it.
_ASIDES = {
    "reasoning", "thinking", "redacted_thinking", "tool_call", "tool_call_chunk", "tool_use", "function_call",
    "invalid_tool_call", "input_json_delta",
}  # fmt: skip
_DATA_URL = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)


def template_messages(
    messages: Sequence[BaseMessage], *, reads_images: bool
) -> tuple[list[TemplateMessage], list[bytes]]:
    """Messages in the form that chat templates take, and their images in the order of their places.

    Args:
        messages: The messages, in any order; at least one.
        reads_images: Whether the model reads images. The templates of such models expect contents that are lists of
            parts; all others expect texts.

    Raises:
        InputError: There is no message, or one holds what no chat template knows.
        NetworkRefusedError: An image is named by its address in a network.
    """
    if not messages:
        raise InputError("there is no message to answer", hint="pass at least one, such as a text")
    names = {call["id"]: call["name"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}
    written: list[TemplateMessage] = []
    images: list[bytes] = []
    for index, message in enumerate(messages):
        parts = list(_parts(message, index, images))
        between = "" if isinstance(message, AIMessage) else "\n"  # a model's blocks are one text; others are several
        content = parts if reads_images else between.join(part["text"] for part in parts if part["type"] == "text")
        written.append({"role": _role(message, index), "content": content, **_beside_content(message, names)})
    return written, images


def simpler_conversations(messages: Sequence[TemplateMessage]) -> Iterator[list[TemplateMessage]]:
    """The same conversation for a template that refused it, each time asking less of the template.

    First with ids of nine digits, which Mistral's want; then without two messages of one role in a row, and with all
    that the system says at the start; then without a system, whose words begin the first message of the user.
    """
    messages = _with_short_ids(messages)
    yield list(messages)
    system = [message for message in messages if message["role"] == "system"]
    rest = _merged([message for message in messages if message["role"] != "system"])
    yield [*_merged(system), *rest]
    first_user = next((index for index, message in enumerate(rest) if message["role"] == "user"), None)
    if system and first_user is not None:
        (told,) = _merged([{**message, "role": "user"} for message in [*system, rest[first_user]]])
        yield [*rest[:first_user], told, *rest[first_user + 1 :]]


def _with_short_ids(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    numbers: dict[str | None, str] = {}

    def short(identity: str | None) -> str:
        return numbers.setdefault(identity, f"{len(numbers) + 1:09d}")

    simpler = []
    for message in messages:
        changed = dict(message)
        if calls := message.get("tool_calls"):
            changed["tool_calls"] = [{**call, "id": short(call["id"])} for call in calls]
        if "tool_call_id" in message:
            changed["tool_call_id"] = short(message["tool_call_id"])
        simpler.append(changed)
    return simpler


def _merged(messages: Sequence[TemplateMessage]) -> list[TemplateMessage]:
    merged: list[TemplateMessage] = []
    for message in messages:
        if merged and message["role"] == merged[-1]["role"] != "tool":
            merged[-1] = _joined(merged[-1], message)
        else:
            merged.append(message)
    return merged


def _joined(first: TemplateMessage, second: TemplateMessage) -> TemplateMessage:
    one, other = first["content"], second["content"]
    between = "\n\n" if one and other else ""
    content = one + between + other if isinstance(one, str) else [*one, {"type": "text", "text": between}, *other]
    calls = [*first.get("tool_calls", ()), *second.get("tool_calls", ())]
    return {**first, **second, "content": content, **({"tool_calls": calls} if calls else {})}


def _role(message: BaseMessage, index: int) -> str:
    if isinstance(message, ChatMessage):
        return message.role
    for kind, role in _ROLES:
        if isinstance(message, kind):
            return role
    msg = f"messages[{index}] is a {type(message).__name__}, which no chat template knows"
    raise InputError(msg, index=index, hint="use system, human, AI and tool messages")


def _beside_content(message: BaseMessage, names: Mapping[str | None, str]) -> dict[str, Any]:
    """What a message has beside its content, as far as it has it."""
    beside: dict[str, Any] = {"name": message.name}
    if isinstance(message, AIMessage):
        beside["reasoning_content"] = message.additional_kwargs.get("reasoning_content")
        beside["tool_calls"] = [
            {"type": "function", "id": call["id"], "function": {"name": call["name"], "arguments": call["args"]}}
            for call in message.tool_calls
        ]
    elif isinstance(message, ToolMessage):
        beside["name"] = message.name or names.get(message.tool_call_id)
        beside["tool_call_id"] = message.tool_call_id
    return {name: value for name, value in beside.items() if value}


def _parts(message: BaseMessage, index: int, images: list[bytes]) -> Iterator[dict[str, Any]]:
    """The parts of a message's content; its images are put into `images`."""
    is_error = isinstance(message, ToolMessage) and message.status == "error"
    if is_error and "error" not in message.text.lower():  # templates have no other place for it
        yield _text("Error:")
    for block in [message.content] if isinstance(message.content, str) else message.content:
        if isinstance(block, str):
            yield from [_text(block)] if block else []
            continue
        kind = block.get("type")
        if kind in _TEXT_BLOCKS:
            yield _text(str(block.get("text") or ""))
        elif kind in _IMAGE_BLOCKS:
            images.append(_image(block, index))
            yield {"type": "image"}
        elif not (isinstance(message, AIMessage) and kind in _ASIDES):
            msg = f"messages[{index}] holds a block of type {kind!r}, and only text and images are read"
            raise InputError(msg, index=index, hint="turn it into text, or leave it out")
    if isinstance(message, AIMessage):
        for call in message.invalid_tool_calls:
            yield _text(call["args"] or "")


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _image(block: Mapping[str, Any], index: int) -> bytes:
    """The bytes of an image, from the forms of LangChain (both versions), OpenAI and Anthropic."""
    source = block.get("source") or {}
    for holder, name in ((block, "base64"), (block, "data"), (source, "data")):
        if isinstance(data := holder.get(name), bytes):
            return data
        if isinstance(data, str):
            return _decoded(data, index)
    url = block.get("url") or block.get("image_url") or source.get("url")
    url = url.get("url") if isinstance(url, dict) else url
    if isinstance(url, str) and (start := _DATA_URL.match(url)):
        return _decoded(url[start.end() :], index)
    hint = 'pass what the image holds: {"type": "image", "base64": ..., "mime_type": "image/png"}'
    if isinstance(url, str) and url.lower().startswith(("http://", "https://")):
        msg = f"messages[{index}] names an image by its address, {url[:80]}, and nothing is downloaded"
        raise NetworkRefusedError(msg, hint=hint)
    raise InputError(f"messages[{index}] holds an image block without an image", index=index, hint=hint)


def _decoded(data: str, index: int) -> bytes:
    try:
        return base64.b64decode(re.sub(r"\s", "", data), validate=True)
    except (binascii.Error, ValueError) as error:
        msg = f"the image in messages[{index}] is not base64: {error}"
        raise InputError(msg, index=index, hint="encode its bytes with base64.b64encode(...).decode()") from error
