"""Tools as a model is told of them, as they are demanded of it, and calls as LangChain has them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from langchain_localhf.chat_models.formats import format_for
from langchain_localhf.chat_models.tools import as_functions, invalid_tool_call, tool_call, tool_constraint
from langchain_localhf.engines.generation.reply import BrokenToolCall, ToolCall
from langchain_localhf.errors import InputError

HERMES = format_for("qwen2", "<tool_call>")
LLAMA = format_for("llama", "<|python_tag|>")


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return city


def multiply(a: int, b: int) -> int:
    """Multiplies two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a * b


class Search(BaseModel):
    """Searches the web."""

    words: list[str] = Field(description="What to look for.")


PLAIN = {"name": "stop", "description": "Stops everything."}


def test_tools_of_every_kind_become_functions() -> None:
    """LangChain's, plain functions, classes, and dictionaries in OpenAI's forms."""
    responses = {"type": "function", "name": "go", "parameters": {"type": "object", "properties": {}}}
    functions = as_functions([get_weather, multiply, Search, PLAIN, responses])
    assert [f["function"]["name"] for f in functions] == ["get_weather", "multiply", "Search", "stop", "go"]
    assert {f["type"] for f in functions} == {"function"}
    assert functions[1]["function"]["parameters"]["required"] == ["a", "b"]
    assert as_functions(functions) == functions


@pytest.mark.parametrize(
    ("tools", "index", "said"),
    [
        ([multiply, get_weather, multiply], 2, "both named 'multiply'"),
        ([get_weather, {"type": "function", "function": {"description": "x"}}], 1, "no name"),
        ([{"type": "web_search"}], 0, "service"),
        ([3], 0, "cannot be described"),
    ],
)
def test_what_no_model_can_call_is_refused_by_its_place(tools: list[Any], index: int, said: str) -> None:
    """A call has to say which tool is meant, and this machine has to have it."""
    with pytest.raises(InputError, match=said) as caught:
        as_functions(tools)
    assert caught.value.index == index
    assert caught.value.hint


@pytest.mark.parametrize("choice", [None, "auto", False])
def test_by_default_a_call_is_held_to_its_form_and_text_is_free(choice: Any) -> None:
    """Whatever begins as a call is one of the tools."""
    constraint = tool_constraint(HERMES, as_functions([get_weather, multiply]), choice, after="</think>")
    assert constraint is not None
    assert constraint.free_text
    assert constraint.after == "</think>"
    assert [tag.trigger for tag in constraint.tags] == ["<tool_call>"] * 2
    assert ['"multiply"' in tag.begin for tag in constraint.tags] == [False, True]


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_without_a_mark_for_calls_nothing_is_demanded_of_text(choice: Any) -> None:
    """Where a call begins like other JSON, it is read as it comes."""
    assert tool_constraint(LLAMA, as_functions([get_weather]), choice) is None


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_without_tools_nothing_is_demanded(choice: Any) -> None:
    """A plain chat."""
    assert tool_constraint(HERMES, [], choice) is None


@pytest.mark.parametrize("choice", ["any", "required", True])
def test_any_tool_may_be_demanded(choice: Any) -> None:
    """Of every family; the reply is then one call and nothing else."""
    for form in (HERMES, LLAMA):
        constraint = tool_constraint(form, as_functions([get_weather, multiply]), choice)
        assert constraint is not None
        assert not constraint.free_text
        assert len(constraint.tags) == 2


@pytest.mark.parametrize(
    "choice", ["multiply", {"type": "function", "function": {"name": "multiply"}}, {"type": "tool", "name": "multiply"}]
)
def test_one_tool_may_be_demanded(choice: Any) -> None:
    """By its name, or in the forms of OpenAI and Anthropic."""
    constraint = tool_constraint(LLAMA, as_functions([get_weather, multiply]), choice)
    assert constraint is not None
    (tag,) = constraint.tags
    assert tag.begin == '{"name": "multiply", "parameters": '
    assert tag.schema["required"] == ["a", "b"]


@pytest.mark.parametrize("choice", ["divide", {"function": {"name": "divide"}}])
def test_a_tool_that_was_not_given_cannot_be_demanded(choice: Any) -> None:
    """The error names those that were."""
    with pytest.raises(InputError, match="divide") as caught:
        tool_constraint(HERMES, as_functions([get_weather, multiply]), choice)
    assert caught.value.hint == "there are get_weather, multiply"


@pytest.mark.parametrize("choice", [{}, {"function": 3}, 7])
def test_a_choice_that_cannot_be_read_is_refused(choice: Any) -> None:
    """With what can be said in its place."""
    with pytest.raises(InputError, match="cannot be read"):
        tool_constraint(HERMES, as_functions([get_weather]), choice)


def test_no_tool_can_be_demanded_where_there_is_none() -> None:
    """Else the constraint would allow nothing at all."""
    with pytest.raises(InputError, match="not given"):
        tool_constraint(HERMES, [], "any")


def schema_of(parameters: dict[str, Any] | None, *, strict: bool | None = None) -> Any:
    """The schema that a call's arguments are held to."""
    function = {"name": "f"} | ({} if parameters is None else {"parameters": parameters})
    constraint = tool_constraint(HERMES, [{"type": "function", "function": function}], "f", strict=strict)
    assert constraint is not None
    return constraint.tags[0].schema


@pytest.mark.parametrize("parameters", [None, {}, {"type": "object"}, {"type": "object", "properties": {}}])
def test_a_tool_without_arguments_is_called_with_none(parameters: dict[str, Any] | None) -> None:
    """Otherwise the model could make some up."""
    assert schema_of(parameters) == {"type": "object", "properties": {}, "additionalProperties": False}


def test_without_strictness_arguments_are_any_object() -> None:
    """What was asked for is asked for in words only."""
    assert schema_of({"type": "object", "properties": {"x": {}}}, strict=False) == {"type": "object"}
    assert tool_constraint(HERMES, as_functions([get_weather]), "auto", strict=False) is None


def test_a_call_becomes_langchains() -> None:
    """Each with an id of its own, so that answers find their calls."""
    part = ToolCall("multiply", '{"a": 2, "b": 3}')
    first, second = tool_call(part), tool_call(part)
    assert (first["name"], first["args"], first["type"]) == ("multiply", {"a": 2, "b": 3}, "tool_call")
    assert re.fullmatch(r"call_[0-9a-f]{8}", first["id"] or "")
    assert first["id"] != second["id"]


def test_a_broken_call_becomes_langchains_invalid_one() -> None:
    """With what the model wrote, and what is wrong with it."""
    call = invalid_tool_call(BrokenToolCall("<tool_call>{", error="no end", name="multiply"))
    assert (call["name"], call["args"], call["error"]) == ("multiply", "<tool_call>{", "no end")
    assert call["id"]
