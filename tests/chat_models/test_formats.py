"""Each family's form: how it is recognised, how it is read, and that what is demanded of a model is read back."""

# ruff: noqa: RUF001 - DeepSeek's marks are written with wide bars

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from langchain_localhf.chat_models.formats import format_for
from langchain_localhf.engines.generation.reply import Content, Reasoning, ToolCall

if TYPE_CHECKING:
    from langchain_localhf.chat_models.formats import ReplyFormat
    from langchain_localhf.engines.generation.reply import ReplyPart

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
PARIS = ToolCall("get_weather", '{"city": "Paris"}')
ROME = ToolCall("get_weather", '{"city": "Rome", "days": 2}')

# What each family's chat template says that tells it from others.
TEMPLATES = {
    "hermes": "{{ '<tool_call>' }}",
    "qwen3-coder": "{{ '<tool_call><function=' ~ name ~ '><parameter=' }}",
    "glm4": "{{ '<tool_call>' ~ name ~ '<arg_key>' }}",
    "llama3": "{{ '<|python_tag|>' }}",
    "mistral": "{{ '[TOOL_CALLS][' }}",
    "mistral-v11": "{{ '[TOOL_CALLS]' ~ name ~ '[ARGS]' }}",
    "phi4": "{{ '<|tool|>' ~ tools ~ '<|/tool|>' }}",
    "granite3": "{{ 'answer with <|tool_call|>' }}",
    "deepseek-v3": "{{ '<｜tool▁call▁begin｜>function<｜tool▁sep｜>' ~ name ~ '```json' }}",
    "deepseek-v3.1": "{{ '<｜tool▁call▁begin｜>' ~ name ~ '<｜tool▁sep｜>' }}",
    "kimi-k2": "{{ '<|tool_call_begin|>' }}",
    "gemma4": "{{ '<|tool_call>call:' }}",
    "functiongemma": "{{ '<start_function_call>call:' }}",
    "gpt-oss": "{{ '<|channel|>commentary json<|message|>' ~ arguments ~ '<|call|>' }}",
}
REPLIES: list[tuple[str, str, list[ReplyPart]]] = [
    (
        "hermes",
        (
            '<think>\nHm.\n</think>\n\nI look.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n'
            '</tool_call>\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}}\n</tool_call>'
        ),
        [Reasoning("Hm."), Content("I look."), PARIS, ROME],
    ),
    (
        "hermes",
        '<tool_call>[{"name": "get_weather", "parameters": {"city": "Paris"}}]</tool_call>',
        [PARIS],
    ),
    (
        "qwen3-coder",
        (
            "I look.\n<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n<parameter=days>\n2\n"
            "</parameter>\n</function>\n</tool_call>"
        ),
        [Content("I look."), ROME],
    ),
    (
        "glm4",
        (
            "<think>Hm.</think>\n<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n"
            "<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>"
        ),
        [Reasoning("Hm."), ROME],
    ),
    ("llama3", '{"name": "get_weather", "parameters": {"city": "Paris"}}', [PARIS]),
    ("llama3", '{"type": "function", "name": "get_weather", "parameters": {"city": "Paris"}}', [PARIS]),
    (
        "llama3",
        (
            '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}; '
            '{"name": "get_weather", "parameters": {"city": "Rome", "days": 2}}'
        ),
        [PARIS, ROME],
    ),
    (
        "mistral",
        (
            'I look. [TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}, '
            '{"name": "get_weather", "arguments": {"city": "Rome", "days": 2}, "id": "abcdefghi"}]'
        ),
        [Content("I look."), PARIS, ROME],
    ),
    (
        "mistral-v11",
        (
            '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}'
            '[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{"city": "Rome", "days": 2}'
        ),
        [PARIS, ROME],
    ),
    ("phi4", '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>', [PARIS]),
    ("granite3", '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]', [PARIS]),
    (
        "deepseek-v3",
        (
            "Hm.\n</think>\n\n<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
            '{"city": "Paris"}\n```<｜tool▁call▁end｜>\n'
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n"
            '{"city": "Rome", "days": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>'
        ),
        [Content("Hm."), PARIS, ROME],  # nothing has opened the reasoning
    ),
    (
        "deepseek-v3.1",
        (
            '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}<｜tool▁call▁end｜>'
            "<｜tool▁calls▁end｜>"
        ),
        [PARIS],
    ),
    (
        "kimi-k2",
        (
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0<|tool_call_argument_begin|>"
            '{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>'
        ),
        [PARIS],
    ),
    (
        "gemma4",
        '<|channel>thought\nHm.\n<channel|>I look.<|tool_call>call:get_weather{city:<|"|>Rome<|"|>,days:2}<tool_call|>',
        [Reasoning("Hm."), Content("I look."), ROME],
    ),
    (
        "functiongemma",
        "<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>",
        [PARIS],
    ),
    (
        "gpt-oss",
        (
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather "
            '<|constrain|>json<|message|>{"city": "Paris"}'
        ),  # the mark at its end is the token that ends the answer
        [Reasoning("Hm."), PARIS],
    ),
    (
        "gpt-oss",
        "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>It is sunny.",
        [Reasoning("Hm."), Content("It is sunny.")],
    ),
]


def read(form: ReplyFormat, text: str, **given: Any) -> list[ReplyPart]:
    """All parts of a reply to a chat that offers the tool."""
    reader = form.reader(**{"tools": [WEATHER], **given})
    return [*reader.feed(text), *reader.finish()]


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_family_is_recognised_by_what_its_chat_template_says(family: str) -> None:
    """The architecture does not matter then: many families share one."""
    assert format_for("llama", TEMPLATES[family]).family == family


@pytest.mark.parametrize(
    ("model_type", "family"), [("gpt_oss", "gpt-oss"), ("gemma4", "gemma4"), ("mistral", "hermes"), ("gpt2", "hermes")]
)
@pytest.mark.parametrize("template", [None, "{{ messages }}"])
def test_a_silent_template_leaves_it_to_the_architecture(model_type: str, family: str, template: str | None) -> None:
    """And where that says nothing, it is the most common form."""
    assert format_for(model_type, template).family == family


def test_other_marks_of_reasoning_are_taken_from_the_template() -> None:
    """Mistral's reasoning models have marks of their own, beside the family's calls."""
    form = format_for("mistral3", "[TOOL_CALLS][ARGS][THINK]")
    assert form.family == "mistral-v11"
    assert read(form, "[THINK]Hm.[/THINK]It is sunny.") == [Reasoning("Hm."), Content("It is sunny.")]


@pytest.mark.parametrize(("family", "text", "parts"), REPLIES)
def test_a_familys_own_replies_are_read(family: str, text: str, parts: list[ReplyPart]) -> None:
    """Content, reasoning and calls, without marks and what separates them."""
    assert read(format_for("", TEMPLATES[family]), text) == parts


@pytest.mark.parametrize("in_text", [False, True])
@pytest.mark.parametrize("family", TEMPLATES)
def test_what_is_demanded_of_a_model_is_read_back(family: str, in_text: bool) -> None:  # noqa: FBT001
    """Whatever the arguments are, also if marks are written in them."""
    form = format_for("", TEMPLATES[family])
    if in_text and not form.trigger:
        pytest.skip("nothing is demanded of this family among text")
    tag = form.tag("get_weather", {"type": "object"}, in_text=in_text)
    arguments = {"city": 'Zürich "Nord" ' + " ".join([*form.opens, form.close]), "days": 3}
    call = ToolCall("get_weather", json.dumps(arguments, ensure_ascii=False))
    before = "I look. " if in_text else ""
    expected: list[ReplyPart] = [Content("I look."), call] if in_text else [call]
    assert read(form, before + tag.begin + json.dumps(arguments) + tag.end) == expected


@pytest.mark.parametrize("family", TEMPLATES)
def test_a_trigger_is_what_the_form_among_text_begins_with(family: str) -> None:
    """Otherwise a constraint could never set in."""
    tag = format_for("", TEMPLATES[family]).tag("get_weather", {}, in_text=True)
    assert tag.begin.startswith(tag.trigger)


@pytest.mark.parametrize("family", TEMPLATES)
def test_markers_hold_everything_that_a_reader_looks_for(family: str) -> None:
    """What no marker holds may be a special token, and would be left out of the text."""
    form = format_for("", TEMPLATES[family])
    tag = form.tag("", {})
    assert form.reader().markers == form.markers  # type: ignore[attr-defined]
    held = "\0".join(form.markers).replace("{name}", "")
    for text in (*form.opens, form.close, *form.reasoning, *form.ignored, form.quote, tag.begin, tag.end):
        assert text in held


def test_a_name_that_json_has_to_escape_is_escaped() -> None:
    """Else the whole call would be no JSON."""
    tag = format_for("", None).tag('a "name"', {})
    assert read(format_for("", None), tag.begin + "{}" + tag.end) == [ToolCall('a "name"', "{}")]


@pytest.mark.parametrize(
    ("prompt", "opens"),
    [
        ("<|im_start|>assistant\n<think>\n", True),
        ("<|im_start|>assistant\n<think>", True),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", False),
        ("<|im_start|>user\nWhat is <think>?<|im_end|>\n<|im_start|>assistant\n", False),
    ],
)
def test_a_prompt_may_open_the_reasoning(prompt: str, opens: bool) -> None:  # noqa: FBT001
    """Only its very end says so; further up, anybody may write of marks."""
    form = format_for("", None)
    assert form.opens_reasoning(prompt) == opens
    first, *rest = read(form, "Hm.\n</think>\n\nSunny.", prompt=prompt)
    assert first == (Reasoning("Hm.") if opens else Content("Hm."))
    assert rest == [Content("Sunny." if opens else "\nSunny.")]
