"""The defects of upstream's ChatHuggingFace: each test shows that it is there, and that it is gone here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import langchain_huggingface
import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from pydantic import BaseModel
from support import language_models
from support.pipelines import Steps, ours, theirs, transformers_pipeline, watch_generate
from support.tables import Table
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer

from langchain_localhf import ChatHuggingFace, HuggingFacePipeline

if TYPE_CHECKING:
    from pathlib import Path

    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import BaseMessage

# Upstream's class imports it to look whether it was given something of it.
pytestmark = pytest.mark.filterwarnings("ignore:.langchain-community. is being sunset:DeprecationWarning")
TABLE = Table("upstream-defects.md", "ChatHuggingFace")
QUESTION = "Hello"
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
# The smallest that there is.
TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"


class City(BaseModel):
    """A city."""

    name: str


def our_chat(model: str | Path = "qwen2", **fields: Any) -> ChatHuggingFace:
    """A tiny model that chats, in this package."""
    return ChatHuggingFace(llm=ours(model), **fields)


def their_chat(model: str | Path = "qwen2", **fields: Any) -> langchain_huggingface.ChatHuggingFace:
    """The same in langchain-huggingface."""
    return langchain_huggingface.ChatHuggingFace(llm=theirs(model), **fields)


def with_template(folder: Path, template: str) -> Path:
    """A copy of a tiny model with another chat template."""
    language_models.copy("llama", folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def prompt_of(chat: BaseChatModel, calls: list[list[list[int]]], asked: Any) -> str:
    """The prompt that the model reads when `chat` is asked."""
    calls.clear()
    chat.invoke(asked)
    return AutoTokenizer.from_pretrained(language_models.folder("qwen2")).decode(calls[0][0])


def test_each_row_has_one_test() -> None:
    """The page and this module list the same defects, numbered from 25."""
    TABLE.check()
    assert [row[0] for row in TABLE.rows] == [str(number) for number in range(25, 34)]


@TABLE.row("25", "`ainvoke` and `astream`")
async def test_async() -> None:
    """There a chat with a local model has neither."""
    there, here = their_chat(), our_chat()
    with pytest.raises(NotImplementedError):
        await there.ainvoke(QUESTION)
    with pytest.raises(AttributeError, match="async_client"):
        await anext(there.astream(QUESTION))
    answer = (await here.ainvoke(QUESTION)).content
    assert answer
    assert "".join([str(chunk.content) async for chunk in here.astream(QUESTION)]) == answer


@TABLE.row("26", "`max_tokens`, `stop`, `n`, `logprobs`, `temperature` and `seed` of the object")
def test_settings_of_the_object() -> None:
    """There they change nothing, and `from_model_id` does not even set them."""
    answer, folder = str(our_chat().invoke(QUESTION).content), str(language_models.folder("qwen2"))
    stop = answer[3:5]
    settings: dict[str, Any] = {"max_tokens": 8, "n": 2, "logprobs": True, "temperature": 2.0, "seed": 1}
    plain = their_chat().invoke(QUESTION).content
    assert their_chat(**settings).invoke(QUESTION).content == plain
    assert their_chat(stop_sequences=[stop]).invoke(QUESTION).content == plain
    assert langchain_huggingface.ChatHuggingFace.from_model_id(folder, max_tokens=8).max_tokens is None
    first, second = our_chat(**settings).generate([[HumanMessage(QUESTION)]]).generations[0]
    assert len({first.text, second.text, answer}) == 3
    assert first.generation_info is not None
    assert len(first.generation_info["logprobs"]["content"]) == 8
    assert our_chat(**settings).invoke(QUESTION).content == first.text
    assert our_chat(stop_sequences=[stop]).invoke(QUESTION).content == answer[: answer.index(stop)]
    assert ChatHuggingFace.from_model_id(folder, max_tokens=8).invoke(QUESTION).usage_metadata["output_tokens"] == 8


@TABLE.row("27", "`bind_tools`")
def test_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the prompt is the same with tools and without."""
    calls = watch_generate(monkeypatch)
    there, here = their_chat(), our_chat(max_tokens=60)
    assert prompt_of(there.bind_tools([WEATHER]), calls, QUESTION) == prompt_of(there, calls, QUESTION)
    assert there.bind_tools([WEATHER], tool_choice="get_weather").invoke(QUESTION).tool_calls == []
    assert WEATHER["description"] in prompt_of(here.bind_tools([WEATHER]), calls, QUESTION)
    (call,) = here.bind_tools([WEATHER], tool_choice="get_weather").invoke(QUESTION).tool_calls
    assert (call["name"], list(call["args"])) == ("get_weather", ["city"])


@TABLE.row("28", "`with_structured_output`")
def test_structured_output() -> None:
    """There no way leads to an object."""
    there, here, schema = their_chat(), our_chat(max_tokens=60), City.model_json_schema()
    with pytest.raises(NotImplementedError):
        there.with_structured_output(City)
    assert there.with_structured_output(schema).invoke(QUESTION) is None
    for method in ("json_schema", "json_mode"):
        with pytest.raises(OutputParserException):
            there.with_structured_output(schema, method=method).invoke(QUESTION)
    for method in ("function_calling", "json_schema", "json_mode"):
        assert isinstance(here.with_structured_output(City, method=method).invoke(QUESTION), City)
        assert City.model_validate(here.with_structured_output(schema, method=method).invoke(QUESTION))


@TABLE.row("29", "a conversation that does not end with the user")
def test_last_message() -> None:
    """There neither a tool nor a system may have the last word, nor can an answer be begun for the model."""
    call = {"name": "get_weather", "args": {"city": "Paris"}, "id": "1"}
    conversations: list[list[BaseMessage]] = [
        [HumanMessage(QUESTION), AIMessage("", tool_calls=[call]), ToolMessage("Sunny.", tool_call_id="1")],
        [SystemMessage("Be brief.")],
        [HumanMessage(QUESTION), AIMessage("It is")],
    ]
    there, here = their_chat(), our_chat()
    for conversation in conversations:
        with pytest.raises(ValueError, match="Last message must be a HumanMessage"):
            there.invoke(conversation)
        assert here.invoke(conversation).content


@TABLE.row("30", "contents that are lists of blocks")
def test_content_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the braces are in the prompt."""
    folder = with_template(tmp_path / "llama", TEMPLATE)
    calls = watch_generate(monkeypatch)
    blocks = [HumanMessage([{"type": "text", "text": QUESTION}])]
    assert prompt_of(their_chat(folder), calls, blocks) == f"user: {[{'type': 'text', 'text': QUESTION}]}\n"
    assert prompt_of(our_chat(folder), calls, blocks) == f"user: {QUESTION}\n"


@TABLE.row("31", "the token that begins a text")
def test_begin_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a tokenizer as Llama's, which puts it before every text, and a template that writes it too."""
    begin = "<|endoftext|>"
    folder = with_template(tmp_path / "llama", begin + TEMPLATE)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=None, special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    calls = watch_generate(monkeypatch)
    once = f"{begin}user: {QUESTION}\n"
    assert prompt_of(their_chat(folder), calls, QUESTION) == begin + once
    assert prompt_of(our_chat(folder), calls, QUESTION) == once


@TABLE.row("32", "what it knows about its model")
def test_knowledge_of_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """There the user's change of the pipeline's template is lost."""
    calls = watch_generate(monkeypatch)
    pipe = transformers_pipeline("qwen2")
    pipe.tokenizer.chat_template = f"Changed: {TEMPLATE}"
    there = langchain_huggingface.ChatHuggingFace(llm=langchain_huggingface.HuggingFacePipeline(pipeline=pipe))
    here = ChatHuggingFace(llm=HuggingFacePipeline(pipeline=pipe))
    assert there.tokenizer is not pipe.tokenizer
    assert not prompt_of(there, calls, QUESTION).startswith("Changed: ")
    assert prompt_of(here, calls, QUESTION).startswith("Changed: ")

    answer = there.invoke(QUESTION)
    assert (answer.usage_metadata, answer.response_metadata, there.profile) == (None, {}, None)
    assert "ls_model_name" not in there._get_ls_params()
    answer = here.invoke(QUESTION)
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] == 16
    assert answer.response_metadata["model_name"] == here._get_ls_params()["ls_model_name"] == pipe.model.name_or_path
    assert here.profile is not None
    assert here.profile["max_input_tokens"] == language_models.CONTEXT


@TABLE.row("33", "`batch`")
def test_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """There four threads share the processor; here those that come while the model is busy go together."""
    questions = ["Hello", "What is it?", "a", "The ships"]
    calls = watch_generate(monkeypatch)
    their_chat().batch(questions)
    assert [len(rows) for rows in calls] == [1] * 4
    pipe = transformers_pipeline("qwen2")
    Steps(pipe, first=0.2)
    here = ChatHuggingFace(llm=HuggingFacePipeline(pipeline=pipe))
    calls.clear()
    here.batch(questions)
    assert sum(len(rows) for rows in calls) == 4
    assert len(calls) <= 2
