"""The tools that a chat model may call: as it is told of them, as they are demanded of it, and as LangChain's calls."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from langchain_core.messages import tool as messages
from langchain_core.utils.function_calling import convert_to_openai_tool

from langchain_localhf.engines.generation.request import Constraint
from langchain_localhf.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langchain_core.messages import InvalidToolCall, ToolCall
    from langchain_core.tools import BaseTool

    from langchain_localhf.chat_models.formats import ReplyFormat
    from langchain_localhf.engines.generation import reply

ToolChoice = str | bool | dict[str, Any] | None

_ANY = ("any", "required", True)


def as_functions(tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool]) -> list[dict[str, Any]]:
    """Tools of any kind that LangChain knows, as functions in OpenAI's form.

    Raises:
        InputError: One is no function, has no name, or has the name of another; the error has its index.
    """
    functions = [_as_function(tool, index) for index, tool in enumerate(tools)]
    names = [function["function"]["name"] for function in functions]
    for index, name in enumerate(names):
        if name in names[:index]:
            msg = f"tools[{names.index(name)}] and tools[{index}] are both named {name!r}"
            raise InputError(msg, index=index, hint="give each its own name, so that a call says which is meant")
    return functions


def _as_function(tool: Any, index: int) -> dict[str, Any]:  # noqa: ANN401 - whatever was given
    try:
        converted = convert_to_openai_tool(tool)
    except Exception as error:  # whatever a class or a signature makes of being looked at
        msg = f"tools[{index}] cannot be described to a model: {error}"
        raise InputError(msg, index=index, hint="use @tool on a function with type hints and a docstring") from error
    if converted.get("type") != "function":
        msg = f"tools[{index}] is {converted.get('type')!r}, which a service runs and no local model can"
        raise InputError(msg, index=index, hint="pass a tool of your own")
    function = converted.get("function", {key: value for key, value in converted.items() if key != "type"})
    if not isinstance(function, dict) or not isinstance(name := function.get("name"), str) or not name.strip():
        msg = f"tools[{index}] has no name"
        raise InputError(msg, index=index, hint='give it one, such as {"name": "get_weather", ...}')
    return {"type": "function", "function": function}


def tool_constraint(
    reply_format: ReplyFormat,
    functions: Sequence[Mapping[str, Any]],
    tool_choice: ToolChoice,
    *,
    strict: bool | None = None,
    after: str = "",
) -> Constraint | None:
    """What a reply has to look like for the sake of the tools.

    Args:
        reply_format: How the model writes calls.
        functions: The tools, as `as_functions` gives them.
        tool_choice: None or `"auto"` for any text, in which a call is a valid one; `"any"`, `"required"` or True for
            one call of any tool; a tool's name, or OpenAI's form of it, for one call of that; `"none"` for none.
        strict: False if arguments may be any JSON object.
        after: The marker up to which the reply is free, such as `</think>`.

    Returns:
        The constraint; None if there is nothing to demand. Calls among text can only be held to their form in families
        that have one in JSON, with a mark of its own; in others they are read as they come.

    Raises:
        InputError: `tool_choice` is not one of these, or there is no such tool.
    """
    if tool_choice == "none":
        return None
    offered = {function["function"]["name"]: function["function"] for function in functions}
    auto = tool_choice in (None, False, "auto")
    if auto and (not offered or not reply_format.trigger or strict is False):
        return None
    names = list(offered) if auto or tool_choice in _ANY else [_chosen(tool_choice)]
    if not names or not offered.keys() >= set(names):
        known = f"there are {', '.join(offered)}" if offered else "there are none; pass tools"
        msg = f"tool_choice={tool_choice!r} asks for a tool that was not given"
        raise InputError(msg, hint=known)
    tags = tuple(
        reply_format.tag(name, {"type": "object"} if strict is False else _parameters(offered[name]), in_text=auto)
        for name in names
    )
    return Constraint(tags, free_text=auto, after=after)


def _chosen(tool_choice: object) -> str:
    name = tool_choice
    if isinstance(tool_choice, dict):
        function = tool_choice.get("function")
        name = function.get("name") if isinstance(function, dict) else tool_choice.get("name")
    if not isinstance(name, str):
        msg = f"tool_choice={tool_choice!r} cannot be read"
        raise InputError(msg, hint='use "auto", "any", "none" or the name of a tool')
    return name


def _parameters(function: Mapping[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {}} | dict(function.get("parameters") or {})
    # A tool without arguments is called with none.
    return parameters if parameters["properties"] else {**parameters, "additionalProperties": False}


def tool_call(part: reply.ToolCall) -> ToolCall:
    """A call as LangChain has it, with an id of its own."""
    return messages.tool_call(name=part.name, args=json.loads(part.arguments), id=_new_id())


def invalid_tool_call(part: reply.BrokenToolCall) -> InvalidToolCall:
    """What should have been a call, as LangChain has it, with an id of its own."""
    return messages.invalid_tool_call(name=part.name, args=part.text, id=_new_id(), error=part.error)


def _new_id() -> str:
    return f"call_{secrets.token_hex(4)}"
