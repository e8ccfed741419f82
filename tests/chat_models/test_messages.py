"""What LangChain's messages become for a chat template."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from langchain_localhf.chat_models.messages import simpler_conversations, template_messages
from langchain_localhf.errors import InputError, NetworkRefusedError

PICTURE = b"\x89PNG not really"
BASE64 = base64.b64encode(PICTURE).decode()


def _written(*messages: BaseMessage) -> list[dict[str, Any]]:
    return template_messages(messages, reads_images=False)[0]


def _call(name: str, identity: str, **arguments: object) -> dict[str, Any]:
    return {"name": name, "args": arguments, "id": identity, "type": "tool_call"}


def test_each_kind_of_message_has_its_role() -> None:
    """System, human, AI, tool, function, and whatever role a chat message names."""
    roles = [
        message["role"]
        for message in _written(
            SystemMessage("s"),
            HumanMessage("h"),
            AIMessage("a"),
            ToolMessage("t", tool_call_id="1"),
            FunctionMessage("f", name="g"),
            ChatMessage("c", role="developer"),
        )
    ]
    assert roles == ["system", "user", "assistant", "tool", "tool", "developer"]


def test_a_message_that_no_template_knows_is_refused_with_its_place() -> None:
    """Not turned into something else."""
    with pytest.raises(InputError, match=r"messages\[1\] is a RemoveMessage") as caught:
        _written(HumanMessage("h"), RemoveMessage(id="1"))
    assert caught.value.index == 1


def test_no_message_is_refused() -> None:
    """There is nothing to answer."""
    with pytest.raises(InputError, match="no message"):
        _written()


def test_arguments_of_tool_calls_are_objects_and_the_answer_gets_the_name_of_its_tool() -> None:
    """As chat templates expect them; a ToolMessage need not say which tool it comes from."""
    asked, told = _written(
        AIMessage("", tool_calls=[_call("add", "7", a=1)]),
        ToolMessage("3", tool_call_id="7"),
    )
    assert asked["tool_calls"] == [{"type": "function", "id": "7", "function": {"name": "add", "arguments": {"a": 1}}}]
    assert told == {"role": "tool", "content": "3", "name": "add", "tool_call_id": "7"}


def test_a_tool_call_that_was_none_stays_as_the_text_that_it_is() -> None:
    """So that the model sees what it wrote."""
    broken = {"name": "add", "args": '{"a": ', "id": "1", "error": "no JSON", "type": "invalid_tool_call"}
    (message,) = _written(AIMessage("Well. ", invalid_tool_calls=[broken]))
    assert message["content"] == 'Well. {"a": '


def test_an_error_of_a_tool_is_told_as_an_error() -> None:
    """Templates have no place for the status; a text that says so itself is not changed."""
    failed = ToolMessage("no such city", tool_call_id="1", status="error")
    explicit = ToolMessage("Error: no such city", tool_call_id="1", status="error")
    assert [message["content"] for message in _written(failed, explicit)] == [
        "Error:\nno such city",
        "Error: no such city",
    ]


def test_reasoning_goes_back_beside_the_content() -> None:
    """Where templates that use it look for it."""
    (message,) = _written(AIMessage("4", additional_kwargs={"reasoning_content": "2+2"}))
    assert message == {"role": "assistant", "content": "4", "reasoning_content": "2+2"}


def test_blocks_of_text_become_one_text() -> None:
    """Several texts of a human stand on lines of their own; those of a model are one text, without what is beside."""
    human, ai = _written(
        HumanMessage(["One.", {"type": "text", "text": "Two."}]),
        AIMessage(
            [{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "On"}, {"type": "text", "text": "e."}]
        ),
    )
    assert (human["content"], ai["content"]) == ("One.\nTwo.", "One.")


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "base64": BASE64, "mime_type": "image/png"},
        {"type": "image", "base64": PICTURE, "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": BASE64, "mime_type": "image/png"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BASE64}},
        {"type": "image", "url": f"data:image/png;base64,{BASE64}"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BASE64}"}},
        {"type": "image_url", "image_url": f"data:image/png;base64,{BASE64}"},
    ],
)
def test_an_image_is_read_from_every_form_of_block(block: dict[str, Any]) -> None:
    """LangChain's two versions, OpenAI's and Anthropic's."""
    message = HumanMessage([{"type": "text", "text": "What is it?"}, block])
    (message_written,), images = template_messages([message], reads_images=True)
    assert images == [PICTURE]
    assert message_written["content"] == [{"type": "text", "text": "What is it?"}, {"type": "image"}]


def test_for_a_model_that_reads_images_every_content_is_a_list() -> None:
    """As templates of such models expect it."""
    messages, _ = template_messages([SystemMessage("s"), AIMessage("")], reads_images=True)
    assert [message["content"] for message in messages] == [[{"type": "text", "text": "s"}], []]


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image", "url": "https://example.org/a.png"},
        {"type": "image_url", "image_url": {"url": "HTTP://example.org/a.png"}},
    ],
)
def test_the_address_of_an_image_in_a_network_is_refused(block: dict[str, Any]) -> None:
    """Nothing is downloaded; the hint says what to pass instead."""
    with pytest.raises(NetworkRefusedError, match=r"example\.org/a\.png") as caught:
        template_messages([HumanMessage([block])], reads_images=True)
    assert "base64" in str(caught.value.hint)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "/etc/passwd", ""])
def test_a_path_is_no_image(url: str) -> None:
    """A conversation, which may come from anyone, does not open files."""
    with pytest.raises(InputError, match="without an image"):
        template_messages([HumanMessage([{"type": "image", "url": url}])], reads_images=True)


def test_what_is_not_base64_is_refused() -> None:
    """With the place of the message."""
    with pytest.raises(InputError, match=r"messages\[0\] is not base64"):
        template_messages([HumanMessage([{"type": "image", "base64": "no!"}])], reads_images=True)


@pytest.mark.parametrize("kind", ["audio", "video", "file", "input_audio", None])
def test_other_blocks_are_refused_by_name(kind: str | None) -> None:
    """None is left out in silence."""
    with pytest.raises(InputError, match=repr(kind)):
        _written(HumanMessage([{"type": kind, "base64": BASE64}]))


def test_a_conversation_gets_ids_of_nine_digits_first() -> None:
    """Which Mistral's templates want; nothing else changes."""
    messages = _written(AIMessage("", tool_calls=[_call("f", "call_1")]), ToolMessage("t", tool_call_id="call_1"))
    simpler = next(simpler_conversations(messages))
    assert simpler[0]["tool_calls"][0]["id"] == simpler[1]["tool_call_id"] == "000000001"
    assert [message["content"] for message in simpler] == ["", "t"]
    assert messages[1]["tool_call_id"] == "call_1"


def test_a_simpler_conversation_has_no_two_messages_of_one_role_in_a_row() -> None:
    """All that the system says comes first; what tools say stays apart."""
    messages = _written(
        SystemMessage("s1"),
        HumanMessage("h1"),
        SystemMessage("s2"),
        HumanMessage("h2"),
        AIMessage("a", tool_calls=[_call("f", "1")]),
        AIMessage("", tool_calls=[_call("g", "2")]),
        ToolMessage("t1", tool_call_id="1"),
        ToolMessage("t2", tool_call_id="2"),
    )
    _, simpler, *_ = simpler_conversations(messages)
    assert [(message["role"], message["content"]) for message in simpler] == [
        ("system", "s1\n\ns2"),
        ("user", "h1\n\nh2"),
        ("assistant", "a"),
        ("tool", "t1"),
        ("tool", "t2"),
    ]
    assert [made["function"]["name"] for made in simpler[2]["tool_calls"]] == ["f", "g"]


def test_the_simplest_conversation_has_no_system() -> None:
    """Its words begin the first message of the user."""
    *_, simplest = simpler_conversations(_written(SystemMessage("Be brief."), HumanMessage("Hi"), AIMessage("Hello")))
    assert simplest == [
        {"role": "user", "content": "Be brief.\n\nHi"},
        {"role": "assistant", "content": "Hello"},
    ]


def test_parts_are_merged_as_parts() -> None:
    """Of a model that reads images."""
    image = {"type": "image", "base64": BASE64}
    messages, _ = template_messages([HumanMessage([image]), HumanMessage("What is it?")], reads_images=True)
    _, (merged,) = simpler_conversations(messages)
    assert [part["type"] for part in merged["content"]] == ["image", "text", "text"]
