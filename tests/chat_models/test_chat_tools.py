"""Calls of tools, and reasoning: demanded from a model, and read out of what it writes."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.tools import tool
from support import language_models
from support.checkpoints import edit_json
from support.generators import ENGINES, model_settings

from langchain_localhf.chat_models import ChatHuggingFace
from langchain_localhf.engines.generation.reply import Content, Reasoning, ToolCall
from langchain_localhf.engines.generation.request import Constraint, Tag
from langchain_localhf.engines.torch.responses import available
from langchain_localhf.errors import InputError
from langchain_localhf.llms import HuggingFacePipeline

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from langchain_core.messages import AIMessage, AIMessageChunk

    from langchain_localhf.engines.generation.generation import Generation
    from langchain_localhf.engines.generation.request import Request


@tool
def add(a: int, b: int) -> int:
    """Adds two numbers."""
    return a + b


@tool
def now() -> str:
    """Tells the time."""
    return "noon"


class Dictating:
    """The tiny model, made to write a given text: noise holds no call of its own accord."""

    def __init__(self, generator: Any, begin: str, value: object, end: str = "") -> None:
        self._generator = generator
        self._constraint = Constraint((Tag(begin=begin, schema={"const": value}, end=end),))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator, name)

    def submit(self, requests: Sequence[Request]) -> list[Generation]:
        return self._generator.submit([replace(request, constraint=self._constraint) for request in requests])


@pytest.fixture(params=ENGINES)
def chat(request: pytest.FixtureRequest) -> ChatHuggingFace:
    """A chat with a model whose weights are random, on each engine."""
    return ChatHuggingFace(llm=HuggingFacePipeline(**model_settings(request.param, "qwen2")), max_tokens=100)


def dictated(chat: ChatHuggingFace, begin: str, value: object, end: str = "") -> ChatHuggingFace:
    """A chat with a model that answers with this text."""
    llm = chat.llm.model_copy()
    llm._generator = Dictating(llm.generator, begin, value, end)
    return ChatHuggingFace(llm=llm, max_tokens=200)


def whole(chunks: Sequence[AIMessageChunk]) -> AIMessageChunk:
    """The chunks as one."""
    total = chunks[0]
    for chunk in chunks[1:]:
        total = total + chunk
    return total


def calls(message: AIMessage) -> list[tuple[str, dict[str, Any]]]:
    """The calls in a message."""
    return [(call["name"], call["args"]) for call in message.tool_calls]


@pytest.mark.parametrize("choice", ["any", "required", True, "add", {"type": "function", "function": {"name": "add"}}])
def test_a_call_that_is_demanded_is_made(chat: ChatHuggingFace, choice: Any) -> None:
    """With arguments that the tool takes, by a model that has learned nothing."""
    message = chat.bind_tools([add], tool_choice=choice).invoke("What is 1 + 2?")
    ((name, arguments),) = calls(message)
    assert name == "add"
    assert add.invoke(arguments) == arguments["a"] + arguments["b"]
    assert message.content == ""
    assert message.response_metadata["finish_reason"] == "tool_calls"
    assert message.tool_calls[0]["id"]


async def test_a_stream_gives_a_call_in_one_piece(chat: ChatHuggingFace) -> None:
    """The same call, sync and async."""
    bound = chat.bind_tools([add, now], tool_choice="add")
    message = bound.invoke("What is 1 + 2?")
    for chunks in (list(bound.stream("What is 1 + 2?")), [chunk async for chunk in bound.astream("What is 1 + 2?")]):
        (piece,) = [piece for chunk in chunks for piece in chunk.tool_call_chunks]
        assert json.loads(piece["args"]) == message.tool_calls[0]["args"]
        total = whole(chunks)
        assert calls(total) == calls(message)
        assert total.response_metadata["finish_reason"] == "tool_calls"


def test_a_tool_without_arguments_is_called_with_none(chat: ChatHuggingFace) -> None:
    """An empty object."""
    assert calls(chat.bind_tools([now], tool_choice="any").invoke("What time is it?")) == [("now", {})]


def test_tools_that_may_not_be_called_are_not_told(chat: ChatHuggingFace) -> None:
    """With `none`, the answer is the one that there is without tools."""
    forbidden = chat.bind_tools([add], tool_choice="none").invoke("Hello")
    assert (forbidden.content, forbidden.tool_calls) == (chat.invoke("Hello").content, [])


@pytest.mark.parametrize(
    ("tools", "choice", "message"),
    [([add], "subtract", "subtract"), ([], "any", "any"), ([add], 3, "3"), ([{"type": "web_search"}], None, "service")],
)
def test_tools_that_cannot_be_used_are_refused_when_they_are_bound(
    chat: ChatHuggingFace, tools: list[Any], choice: Any, message: str
) -> None:
    """Not at the first call."""
    with pytest.raises(InputError, match=message):
        chat.bind_tools(tools, tool_choice=choice)


def test_two_tools_of_one_name_are_refused(chat: ChatHuggingFace) -> None:
    """A call could not say which it means."""
    with pytest.raises(InputError, match="both named 'add'"):
        chat.bind_tools([add, add]).invoke("Hello")


def test_reasoning_content_and_calls_are_told_apart(chat: ChatHuggingFace) -> None:
    """Whole and in a stream; reasoning is a block of its own."""
    text = '<think>\nOne and two.\n</think>\n\nLet me see.\n<tool_call>\n{"name": "add", "arguments": '
    bound = dictated(chat, text, {"a": 1, "b": 2}, "}\n</tool_call>").bind_tools([add])
    message = bound.invoke("What is 1 + 2?")
    assert message.additional_kwargs["reasoning_content"].strip() == "One and two."
    assert str(message.content).strip() == "Let me see."
    assert calls(message) == [("add", {"a": 1, "b": 2})]
    assert message.response_metadata["finish_reason"] == "tool_calls"
    assert [block["type"] for block in message.content_blocks] == ["reasoning", "text", "tool_call"]

    chunks = list(bound.stream("What is 1 + 2?"))
    total = whole(chunks)
    assert total.content == message.content
    assert total.additional_kwargs == message.additional_kwargs
    assert calls(total) == calls(message)
    assert sum("reasoning_content" in chunk.additional_kwargs for chunk in chunks) > 1


def test_a_broken_call_is_an_invalid_one(chat: ChatHuggingFace) -> None:
    """It is neither lost nor repaired, also not in a stream."""
    bound = dictated(chat, '<tool_call>\n{"name": "add", "arguments": {"a": ', 1, "</tool_call>").bind_tools([add])
    message = bound.invoke("What is 1 + 2?")
    total = whole(list(bound.stream("What is 1 + 2?")))
    for answer in (message, total):
        assert answer.tool_calls == []
        (broken,) = answer.invalid_tool_calls
        assert '{"a": 1' in str(broken["args"])
        assert answer.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize(("parallel", "count"), [(None, 2), (True, 2), (False, 1)])
def test_a_second_call_is_left_out_where_one_was_asked_for(
    chat: ChatHuggingFace,
    parallel: bool | None,  # noqa: FBT001 - a parameter of the test
    count: int,
) -> None:
    """With `parallel_tool_calls=False`; each call has its place in a stream."""
    one = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>\n'
    text = one + '<tool_call>\n{"name": "now", "arguments": '
    bound = dictated(chat, text, {}, "}\n</tool_call>").bind_tools([add, now], parallel_tool_calls=parallel)
    expected = [("add", {"a": 1, "b": 2}), ("now", {})][:count]
    assert calls(bound.invoke("?")) == expected
    assert calls(whole(list(bound.stream("?")))) == expected


def test_a_call_or_a_structured_answer_where_both_are_possible(chat: ChatHuggingFace) -> None:
    """As agents ask for it: tools, and a form for the answer in the end."""
    schema = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "result", "schema": schema}}
    for question in ("Hello", "What is 1 + 2?", "a", "b", "c"):
        message = chat.bind_tools([add], response_format=wanted).invoke(question)
        if message.tool_calls:
            assert calls(message)[0][0] == "add"
        else:
            assert json.loads(str(message.content)).keys() == {"sum"}
    demanded = chat.bind_tools([add], tool_choice="any", response_format=wanted).invoke("Hello")
    assert calls(demanded)


@pytest.fixture
def describing(tmp_path: Path) -> ChatHuggingFace:
    """A chat with a model whose tokenizer says how its replies are to be read."""
    if not available():
        pytest.skip("this transformers knows no response_template")
    folder = language_models.copy("qwen2", tmp_path / "describing")
    template = {
        "start_anchor": "<|im_start|>assistant\n",
        "fields": {
            "reasoning_content": {"open": "(", "close": ")"},
            "tool_calls": {
                "open": "[",
                "close": "]",
                "repeats": True,
                "content": "json",
                "transform": {"type": "function", "function": "{content}"},
            },
            "content": {"close": "<|im_end|>"},
        },
    }
    edit_json(folder / "tokenizer_config.json", response_template=template)
    return ChatHuggingFace.from_model_id(str(folder), max_tokens=100)


def test_a_reply_is_read_as_its_tokenizer_says(describing: ChatHuggingFace) -> None:
    """Its own description goes before the table of families."""
    written = '(Two numbers.)Well. [{"name": "add", "arguments": {"a": 1, "b": 2}}]'
    chat = dictated(describing, written[:20], json.loads('{"x": 0}'))
    reader = chat.llm.generator.reply_reader("", tools=())
    assert reader is not None
    parts = [*reader.feed(written), *reader.finish()]
    assert parts == [Reasoning("Two numbers."), Content("Well."), ToolCall("add", '{"a": 1, "b": 2}')]
    answer = chat.invoke("Add.")
    assert answer.additional_kwargs["reasoning_content"] == "Two numbers."
    assert answer.text.startswith("Well.")


def test_a_demanded_call_is_read_in_the_form_that_is_demanded(describing: ChatHuggingFace) -> None:
    """Whatever the tokenizer says of calls that come by themselves."""
    answer = describing.bind_tools([add], tool_choice="any").invoke("Add.")
    assert [name for name, _ in calls(answer)] == ["add"]
    assert describing.bind_tools([add]).invoke("Add.", max_tokens=10).invalid_tool_calls == []
