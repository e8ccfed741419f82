"""Reading a reply while it is written: nothing too early, nothing lost, and never a mark as content."""

# ruff: noqa: RUF001 - DeepSeek's marks are written with wide bars

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_localhf.chat_models.formats import format_for
from langchain_localhf.engines.generation.reply import BrokenToolCall, Content, Reasoning, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_localhf.chat_models.formats import ReplyFormat
    from langchain_localhf.engines.generation.reply import ReplyPart

ADD = {"type": "function", "function": {"name": "add", "parameters": {"properties": {"a": {"type": "integer"}}}}}
HERMES = format_for("qwen2", "<tool_call>")
LLAMA = format_for("llama", "<|python_tag|>")
MISTRAL = format_for("mistral", "[TOOL_CALLS]")
CODER = format_for("qwen3_5", "<tool_call><function=<parameter=")
FORMS = {
    form.family: form
    for form in (
        HERMES,
        LLAMA,
        MISTRAL,
        CODER,
        format_for("gpt_oss", None),
        format_for("gemma4", None),
        format_for("", "<｜tool▁call▁begin｜>```json"),
    )
}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
BARE = '{"name": "add", "parameters": {"a": 1}}'
ONE = ToolCall("add", '{"a": 1}')


def read(form: ReplyFormat, pieces: Iterable[str], *, tools: bool = True, prompt: str = "") -> list[ReplyPart]:
    """All parts of a reply that comes in pieces."""
    reader = form.reader(tools=[ADD] if tools else [], prompt=prompt)
    return joined([*(part for piece in pieces for part in reader.feed(piece)), *reader.finish()])


def joined(parts: list[ReplyPart]) -> list[ReplyPart]:
    """Parts with neighbours of text put together, as where they are cut says nothing."""
    together: list[ReplyPart] = []
    for kind, group in groupby(parts, key=type):
        if kind in (Content, Reasoning):
            together.append(kind("".join(part.text for part in group)))
        else:
            together.extend(group)
    return together


def pieces_of(form: ReplyFormat) -> st.SearchStrategy[str]:
    """What replies of a family are made of, whole and in part, in any order."""
    tag = form.tag("add", {})
    whole = [
        *form.markers,
        tag.begin + '{"a": 1}' + tag.end,
        BARE,
        '{"a": ',
        "}",
        '"',
        "\n",
        " ",
        ";",
        "add",
        "Hm, x < 1",
    ]
    cut = st.sampled_from(whole).flatmap(lambda text: st.integers(0, len(text)).map(lambda place: text[:place]))
    return st.lists(st.sampled_from(whole) | cut | st.text("ab<[{ \n", max_size=4), max_size=12).map("".join)


@pytest.mark.parametrize("family", FORMS)
@given(data=st.data())
def test_what_is_read_does_not_depend_on_where_the_text_is_cut(family: str, data: st.DataObject) -> None:
    """One character at a time, everything at once, or anything between."""
    form = FORMS[family]
    text = data.draw(pieces_of(form))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    prompt = data.draw(st.sampled_from(["", form.reasoning[0]]))
    at_once = read(form, [text], prompt=prompt)
    assert read(form, text, prompt=prompt) == at_once
    assert read(form, pieces, prompt=prompt) == at_once


@pytest.mark.parametrize("family", FORMS)
@given(data=st.data())
def test_no_mark_is_content_and_nothing_else_is_lost(family: str, data: st.DataObject) -> None:
    """Every word of the model is in one of the parts."""
    form = FORMS[family]
    marks = [mark for mark in (*form.opens, form.close, *form.reasoning, *form.ignored) if mark]
    text = data.draw(st.lists(st.sampled_from([*marks, "apple ", "{pear}", "\n"]), max_size=8).map("".join))
    parts = read(form, text)
    for part in parts:
        if isinstance(part, Content):
            assert not any(mark in part.text for mark in marks)
    kept = "".join(part.text for part in parts if not isinstance(part, ToolCall))
    assert kept.count("apple") == text.count("apple")
    assert kept.count("pear") == text.count("pear")


def test_content_is_given_as_soon_as_it_is_certain() -> None:
    """Only what may yet become a mark is held back, and the whitespace that may stand before one."""
    reader = HERMES.reader()
    assert reader.feed("It is") == [Content("It is")]
    assert reader.feed(" 1 <") == [Content(" 1")]
    assert reader.feed("to") == []
    assert reader.feed(" 2") == [Content(" <to 2")]
    assert reader.feed("\n\n<tool_ca") == []
    assert reader.finish() == [Content("\n\n<tool_ca")]


def test_a_call_is_given_as_soon_as_it_is_complete() -> None:
    """Before the reply ends, and once."""
    reader = HERMES.reader()
    assert reader.feed(CALL[:-1]) == []
    assert reader.feed(CALL[-1]) == [ONE]
    assert reader.finish() == []


@pytest.mark.parametrize("text", ["  It is sunny.\n\n", "\n", "a\n\n b"])
def test_a_reply_without_marks_is_given_as_it_is(text: str) -> None:
    """With its whitespace."""
    assert read(HERMES, [text]) == [Content(text)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (f"Look:\n\n{CALL}\n", [Content("Look:"), ONE]),
        (f"\n{CALL}\n{CALL}\n", [ONE, ONE]),
        (f"Look:\n{CALL}\n\nDone.", [Content("Look:"), ONE, Content("\nDone.")]),
        (f"Look:{CALL} Done.\n", [Content("Look:"), ONE, Content(" Done.\n")]),
        ("<think>\n\n</think>\n\nDone.", [Content("Done.")]),
        ("<think>\nA\n\nB\n</think>\nDone.", [Reasoning("A\n\nB"), Content("Done.")]),
    ],
)
def test_whitespace_next_to_marks_is_not_content(text: str, parts: list[ReplyPart]) -> None:
    """But what separates two pieces of content still does."""
    assert read(HERMES, [text]) == parts


def test_reasoning_that_is_opened_twice_is_read_once() -> None:
    """By the chat template, and again by the model."""
    assert read(HERMES, ["<think>\nHm.</think>Yes."], prompt="<think>\n") == [Reasoning("Hm."), Content("Yes.")]


def test_reasoning_that_never_ends_stays_reasoning() -> None:
    """As where the reply was cut off."""
    assert read(HERMES, ["Hm. <b"], prompt="<think>\n") == [Reasoning("Hm. <b")]


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ('<tool_call>\n{"name": "add", "arguments": {"a": }}\n</tool_call>', "add", "Expecting value"),
        ('<tool_call>{"name": "add", "arguments": {"a": 1}</tool_call>', "add", "Expecting"),
        ('<tool_call>\n{"name": "add", "arguments": {"a', "add", "Unterminated"),
        ("<tool_call>", None, "no name"),
        ("<tool_call>add 1 and 2</tool_call>", None, "no name"),
        ('<tool_call>{"arguments": {"a": 1}}</tool_call>', None, "no name"),
        ('<tool_call>{"name": "add", "arguments": [1]}</tool_call>', "add", "list"),
        ('<tool_call>{"name": "add", "arguments": {"a": NaN}}</tool_call>', "add", "NaN"),
        ("<tool_call>[]</tool_call>", None, "no object"),
        ("<tool_call>" + "[" * 100_000, None, ""),
    ],
)
def test_a_broken_call_is_given_with_its_text_and_what_is_wrong(text: str, name: str | None, said: str) -> None:
    """Never lost, never content, never an error of the reader's own."""
    (part,) = read(HERMES, [text])
    assert isinstance(part, BrokenToolCall)
    assert (part.text, part.name) == (text, name)
    assert said in part.error


def test_a_broken_call_costs_nothing_behind_it() -> None:
    """Not even if a quote was left open."""
    broken = '<tool_call>{"name": "add", "arguments": {"a": "1}}</tool_call>'
    first, *rest = read(HERMES, [f"{broken}\n{CALL}\nDone."])
    assert isinstance(first, BrokenToolCall)
    assert first.text == broken
    assert rest == [ONE, Content("Done.")]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (HERMES, '<tool_call>{"name": "add", "arguments": {"a": 1}}'),
        (HERMES, '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>'),
        (CODER, "<tool_call><function=add><parameter=a>1</parameter></tool_call>"),
        (CODER, '<tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>'),
        (MISTRAL, '[TOOL_CALLS]{"name": "add", "arguments": {"a": 1}}'),
    ],
)
def test_slips_that_leave_no_doubt_are_forgiven(form: ReplyFormat, text: str) -> None:
    """A missing end, JSON in JSON, a family's other form."""
    assert read(form, [text]) == [ONE]


def test_arguments_without_quotes_are_what_their_schema_says() -> None:
    """As a model that writes no JSON cannot say it itself."""
    properties = {
        "number": {"type": "number"},
        "text": {"type": "string"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "flag": {"type": "boolean"},
        "list": {"type": ["array", "null"]},
        "wrong": {"type": "integer"},
    }
    values = {"number": "1.5", "text": "12", "maybe": "null", "flag": "True", "list": "[1]", "wrong": "x", "new": "7"}
    written = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    reader = CODER.reader(tools=[{"name": "f", "parameters": {"properties": properties}}])
    (call,) = reader.feed(f"<tool_call>\n<function=f>\n{written}</function>\n</tool_call>")
    assert call == ToolCall(
        "f",
        '{"number": 1.5, "text": "12", "maybe": null, "flag": true, "list": [1], "wrong": "x", "new": "7"}',
    )


def test_what_is_no_argument_breaks_a_call() -> None:
    """It is not left out in silence."""
    (part,) = read(CODER, ["<tool_call><function=add><parameter=a>1</function></tool_call>"])
    assert isinstance(part, BrokenToolCall)
    assert part.name == "add"


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "Ada", "age": 36}',
        '{"name": "add", "rank": 3}',
        '{"answer": 42}',
        '{"na',
        'The call is {"name": "add", "parameters": {}}',
        "{",
    ],
)
def test_json_that_is_no_call_stays_content(text: str) -> None:
    """Where calls have no mark, only a tool's name and its arguments make one."""
    assert read(LLAMA, text) == [Content(text)]


def test_without_tools_every_json_is_content() -> None:
    """An answer may look like a call."""
    assert read(LLAMA, BARE, tools=False) == [Content(BARE)]


def test_json_is_held_back_only_while_it_may_be_a_call() -> None:
    """Structured output should stream."""
    reader = LLAMA.reader(tools=[ADD])
    assert reader.feed('{"') == []
    assert reader.feed("answer") == [Content('{"answer')]


def test_a_bare_call_that_is_cut_off_is_broken() -> None:
    """It had the tool's name, so it was meant as one."""
    (part,) = read(LLAMA, [BARE[:-3]])
    assert isinstance(part, BrokenToolCall)
    assert (part.text, part.name) == (BARE[:-3], "add")
