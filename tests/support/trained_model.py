"""A tiny chat model that knows a few dialogues by heart, those of LangChain's standard tests; trained once a run.

What the tests ask and which tools they bind is in `langchain_tests`.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING

from langchain_core.tools import tool
from langchain_tests.integration_tests.chat_models import magic_function, magic_function_no_args, unicode_customer

from support.taught_models import Dialogue, asked, call, calling, taught

if TYPE_CHECKING:
    from pathlib import Path

CONTEXT = 1024


@tool
def get_weather(location: str) -> str:
    """Get the weather at a location."""
    return "It's sunny."


def _dialogues() -> list[Dialogue]:
    weather = asked("What is the weather in San Francisco, CA?")
    hello_group = asked("Create a customer named '你好啊集团' (Hello Group) - a Chinese technology company")
    hello_corporation = asked("Create a customer named 'こんにちは株式会社' (Hello Corporation) - a Japanese company")
    joke = json.dumps({"setup": "Why do cats sit on keyboards?", "punchline": "To keep an eye on the mouse."})
    seen = [
        *weather,
        calling("get_weather", location="San Francisco, CA"),
        {"role": "tool", "content": get_weather.invoke({"location": ""})},
    ]
    return [
        Dialogue(
            asked("What is the value of magic_function(3)? Use the tool."),
            call("magic_function", input=3),
            [magic_function],
        ),
        Dialogue(
            asked("What is the value of magic_function_no_args()? Use the tool."),
            call("magic_function_no_args"),
            [magic_function_no_args],
        ),
        Dialogue(weather, call("get_weather", location="San Francisco, CA"), [get_weather]),
        Dialogue(seen, "It is sunny in San Francisco.", [get_weather]),
        Dialogue(
            hello_group,
            call("unicode_customer", customer_name="你好啊集团", description="A Chinese technology company"),
            [unicode_customer],
        ),
        Dialogue(
            hello_corporation,
            call("unicode_customer", customer_name="こんにちは株式会社", description="A Japanese company"),
            [unicode_customer],
        ),
        Dialogue(asked("Hello"), "Hello! How can I help?"),
        Dialogue(
            [*asked("hello"), {"role": "assistant", "content": "hello"}, *asked("how are you")], "Fine, thank you."
        ),
        Dialogue(asked("Tell me a joke about cats."), joke),
    ]


@cache
def folder() -> Path:
    """The folder of the model; not to be written to. It has a chat template and looks at `CONTEXT` tokens."""
    return taught(_dialogues(), CONTEXT)
