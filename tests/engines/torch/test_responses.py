"""Replies read as the tokenizer's own `response_template` says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from langchain_localhf.engines.generation.reply import BrokenToolCall, Content, Reasoning, ToolCall
from langchain_localhf.engines.torch.responses import TemplateReader, available
from langchain_localhf.errors import CheckpointError

if TYPE_CHECKING:
    from langchain_localhf.engines.generation.reply import ReplyPart

pytestmark = pytest.mark.skipif(not available(), reason="this transformers knows no response_template")

TEMPLATE: dict[str, Any] = {
    "start_anchor": "<|assistant|>\n",
    "fields": {
        "reasoning_content": {"open": "<reason>", "close": "</reason>"},
        "tool_calls": {
            "open": "<call>",
            "close": "</call>",
            "repeats": True,
            "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close_pattern": r"<\|end\|>", "optional": False},
        "channel": {"open": ["<side>", "<aside>"], "close": "</side>"},
    },
}
PROMPT = "<|user|>\nHello.<|end|>\n<|assistant|>\n"
CALL = '<call>{"name": "add", "arguments": {"a": 1}}</call>'
ONE = ToolCall("add", '{"a": 1}')


def read(
    *pieces: str, prompt: str = PROMPT, template: dict[str, Any] = TEMPLATE, tools: list[dict[str, Any]] | None = None
) -> list[ReplyPart]:
    """All parts of a reply, with neighbours of text put together."""
    reader = TemplateReader(template, prompt=prompt, tools=tools or [])
    together: list[ReplyPart] = []
    for part in [*(part for piece in pieces for part in reader.feed(piece)), *reader.finish()]:
        last = together[-1] if together else None
        if isinstance(part, Content) and isinstance(last, Content):
            together[-1] = Content(last.text + part.text)
        elif isinstance(part, Reasoning) and isinstance(last, Reasoning):
            together[-1] = Reasoning(last.text + part.text)
        else:
            together.append(part)
    return together


def test_a_reply_is_told_apart_as_the_template_says() -> None:
    """With the template's own marks, and without the whitespace next to them."""
    text = f"<reason>\nHm,\n well.\n</reason>\n\nI add.\n{CALL}{CALL}<|end|>"
    expected = [Reasoning("Hm,\n well."), Content("I add."), ONE, ONE]
    assert read(text) == expected
    assert read(*text) == expected


def test_a_prompt_may_have_opened_the_reasoning() -> None:
    """The template finds it behind the anchor."""
    assert read("Hm.\n</reason>\nYes.", prompt=PROMPT + "<reason>\n") == [Reasoning("Hm."), Content("Yes.")]


def test_text_is_given_as_it_comes() -> None:
    """Only what may be a mark is held back."""
    reader = TemplateReader(TEMPLATE, prompt=PROMPT)
    assert reader.feed("Yes") == [Content("Yes")]
    assert reader.feed(" <ca") == []
    assert reader.finish() == [Content(" <ca")]


def test_a_broken_call_costs_neither_what_is_before_it_nor_what_is_behind() -> None:
    """It is given with its text and what is wrong."""
    broken = '<call>{"name": "add", "arguments": {"a": 1}</call>'
    first, call, *rest = read(f"Well.{broken}{CALL}Done.")
    assert first == Content("Well.")
    assert isinstance(call, BrokenToolCall)
    assert call.text == broken
    assert "JSON" in call.error
    assert rest == [ONE, Content("Done.")]


def test_a_call_that_is_cut_off_is_broken() -> None:
    """With all that there is of it."""
    call = read('Well.<call>{"name": "add"</ca')[1]
    assert isinstance(call, BrokenToolCall)
    assert call.text == '<call>{"name": "add"</ca'


def test_what_is_in_a_field_of_another_kind_is_left_out() -> None:
    """The template says that it is neither content nor reasoning."""
    assert read("<side>Hm.</side>Yes.") == [Content("Yes.")]


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ("[1]", None),
        ("{}", None),
        ('{"name": 3}', None),
        ('{"name": "add", "arguments": [1]}', "add"),
        ('{"name": "add", "arguments": "{"}', "add"),
    ],
)
def test_json_that_is_no_call_is_broken(body: str, name: str | None) -> None:
    """A call has a name, and its arguments are an object."""
    call = read(f"<call>{body}</call>")[0]
    assert isinstance(call, BrokenToolCall)
    assert call.name == name


@pytest.mark.parametrize("written", ['{"name": "add"}', '{"name": "add", "arguments": "{}"}'])
def test_arguments_may_be_left_out_or_be_json_in_json(written: str) -> None:
    """As some models write them."""
    assert read(f"<call>{written}</call>") == [ToolCall("add", "{}")]


def test_arguments_in_markup_are_what_their_schema_says() -> None:
    """The tools that were offered are known to the template's parser."""
    calls = {
        "open_pattern": r"<call=(?P<name>\w+)>",
        "close": "</call>",
        "repeats": True,
        "content": "xml-inline",
        "content_args": {"tag_pattern": r"<(?P<key>\w+)>(?P<value>.*?)</\w+>"},
        "transform": {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}},
    }
    template = {**TEMPLATE, "fields": {**TEMPLATE["fields"], "tool_calls": calls}}
    add = {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}}}
    assert read("<call=add><a>1</a></call>", template=template, tools=[add]) == [ONE]


def test_a_reply_without_a_field_that_the_template_requires_is_read() -> None:
    """A reply that was cut off in its reasoning has no content."""
    assert read("<reason>Hm") == [Reasoning("Hm")]


def test_an_odd_call_in_a_conversation_without_anchor_does_no_harm() -> None:
    """The parser then takes the whole conversation for the start of the reply."""
    assert read("Yes.", prompt="<call>{</call>") == [Content("Yes.")]


def test_a_template_that_cannot_be_read_is_refused() -> None:
    """Where it is used, with what to do about it."""
    with pytest.raises(CheckpointError, match="response_template") as caught:
        TemplateReader({"fields": {}}, prompt="")
    assert caught.value.hint


def test_markers_hold_the_special_tokens_of_the_template() -> None:
    """Also those that stand in regular expressions."""
    held = "\0".join(TemplateReader(TEMPLATE, prompt="").markers)
    for mark in ("<|assistant|>", "<reason>", "</reason>", "<call>", "</call>", "<|end|>"):
        assert mark in held
