"""Chat templates, rendered without transformers as transformers renders them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from jinja2 import TemplateError
from support import language_models, openvino_models

from langchain_localhf.engines.openvino.chat_template import ChatTemplate
from langchain_localhf.engines.openvino.model_files import ModelFiles
from langchain_localhf.errors import InputError
from langchain_localhf.loading import load_generator

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}
TOOLS = [
    {"type": "function", "function": {"name": "größe", "parameters": {"type": "object", "properties": {"<a>": {}}}}}
]
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi & <bye>"},
    {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "größe", "arguments": {"a": [1, "é"]}}}]},
    {"role": "tool", "content": "3"},
    {"role": "assistant", "content": "It is three ", "reasoning_content": "hm"},
]
TEMPLATES = {
    "of the tiny models": language_models.CHAT_TEMPLATE,
    "blocks on lines of their own": """
    {% for message in messages %}
        {% if message.role == 'system' %}
            {% continue %}
        {% endif %}
{{ message.role }}: {{ message.content }}
    {% endfor %}
    {% if add_generation_prompt %}
assistant:
    {% endif %}
""",
    "special tokens and variables": "{{ bos_token }}{{ messages|length }}{{ eos_token }}{{ mood }}{{ x is defined }}",
    "json": "{{ tools | tojson }}{{ tools | tojson(indent=2) }}{{ messages[2].tool_calls | tojson }}",
    "marks for training": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "reasoning": "{{ messages[-1].reasoning_content }}{{ messages[-1].thinking }}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "absent things": "{{ documents is none }}{{ messages[0].name is defined }}{{ messages[0].get('name') }}",
}


def of_transformers(template: str, **settings: Any) -> str:
    """What a tokenizer of transformers with these special tokens makes of it."""
    tokenizer = language_models.tokenizer()
    settings = {"chat_template": template, "tokenize": False, **SPECIAL, **settings}
    return str(tokenizer.apply_chat_template(CHAT, **settings))


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
@pytest.mark.parametrize("begins", [True, False])
def test_a_template_renders_as_in_transformers(template: str, *, begins: bool) -> None:
    """To the last space."""
    if template == TEMPLATES["reasoning"] and not of_transformers("{{ messages[-1].thinking }}"):
        pytest.skip("this transformers knows one name for reasoning only")
    found = ChatTemplate(template, SPECIAL).render(
        CHAT, tools=TOOLS, variables={"mood": "good", "add_generation_prompt": begins}
    )
    assert found == of_transformers(template, tools=TOOLS, mood="good", add_generation_prompt=begins)


@pytest.mark.parametrize("stripped", ["", " | trim"])
def test_the_last_message_can_be_continued(stripped: str) -> None:
    """The prompt ends with it, also where the template strips it."""
    template = "{% for m in messages %}{{ m.role + ': ' }}{{ m.content" + stripped + " }}{{ ' <end>' }}{% endfor %}"
    found = ChatTemplate(template, SPECIAL).render(CHAT, tools=(), variables={"continue_final_message": True})
    assert found == of_transformers(template, continue_final_message=True)
    assert found.rstrip().endswith("It is three")


def test_a_message_of_blocks_can_be_continued() -> None:
    """At the end of its last text."""
    template = "{% for m in messages %}{% for block in m.content %}{{ block.text }}{% endfor %}{% endfor %}!"
    chat = [{"role": "assistant", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": " two"}]}]
    assert ChatTemplate(template, {}).render(chat, tools=(), variables={"continue_final_message": True}) == "one two"
    assert chat[0]["content"][-1] == {"type": "text", "text": " two"}  # nothing of the user's is changed


@pytest.mark.parametrize(
    ("chat", "variables"),
    [
        ([], {"continue_final_message": True}),
        ([{"role": "assistant", "content": None}], {"continue_final_message": True}),
        (CHAT, {"continue_final_message": True, "add_generation_prompt": True}),
        ([{"role": "nobody", "content": "hidden"}], {"continue_final_message": True}),
    ],
)
def test_what_cannot_be_continued_is_refused(chat: list[dict[str, Any]], variables: dict[str, Any]) -> None:
    """Instead of a prompt that means something else."""
    template = ChatTemplate("{% for m in messages if m.role != 'nobody' %}{{ m.content }}{% endfor %}", {})
    with pytest.raises(ValueError, match="message"):
        template.render(chat, tools=(), variables=variables)


def test_templates_know_the_day_and_can_refuse() -> None:
    """As many do."""
    now = ChatTemplate("{{ strftime_now('%Y') }}", {}).render([], tools=(), variables={})
    assert now == str(datetime.now().astimezone().year)
    with pytest.raises(TemplateError, match="roles"):
        ChatTemplate("{{ raise_exception('roles must alternate') }}", {}).render([], tools=(), variables={})


@pytest.mark.parametrize("template", ["{{ ''.__class__.__mro__ }}", "{{ messages.append(1) }}"])
def test_a_template_reaches_nothing_else(template: str) -> None:
    """It came with a model, and is nobody's program."""
    with pytest.raises(TemplateError):
        ChatTemplate(template, {}).render([], tools=(), variables={})


def test_a_template_of_the_call_is_taken_instead() -> None:
    """As transformers takes it, and refused in its words."""
    engine = load_generator(str(openvino_models.folder("gpt2")), task="text-generation", backend="openvino").generator
    own = {"chat_template": "{{ messages[0].content + eos_token }}"}
    assert engine.render_chat([{"role": "user", "content": "Hi"}], variables=own) == "Hi<|endoftext|>"
    with pytest.raises(InputError, match="refuses"):
        engine.render_chat([{"role": "user", "content": "Hi"}], variables={"chat_template": "{% if %}"})


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", "one"),
        ("chat_template.json", '{"chat_template": "one"}'),
        ("tokenizer_config.json", '{"chat_template": "one"}'),
        (
            "tokenizer_config.json",
            '{"chat_template": [{"name": "rag", "template": "two"}, {"name": "default", "template": "one"}]}',
        ),
    ],
)
def test_a_template_has_several_places(name: str, content: str, tmp_path: Path) -> None:
    """Old and new ones."""
    for file in ("openvino_model.xml", "openvino_model.bin", "config.json"):
        (tmp_path / file).touch()
    (tmp_path / name).write_text(content)
    assert ModelFiles.find(tmp_path, name="m").chat_template == "one"
