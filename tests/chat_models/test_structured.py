"""Answers that follow a schema, by a model that has learned nothing."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1
from support import language_models
from support.generators import ENGINES, model_settings
from typing_extensions import TypedDict

from langchain_localhf.chat_models import ChatHuggingFace
from langchain_localhf.chat_models.structured import TruncatedAnswerError, answer_schema, json_schema
from langchain_localhf.errors import InputError, LocalHFError
from langchain_localhf.llms import HuggingFacePipeline


class Ship(BaseModel):
    """A ship."""

    tons: Annotated[int, Field(ge=0, le=99)]
    sails: bool | None = None


class ShipV1(BaseModelV1):
    """A ship."""

    tons: int
    sails: bool = False


class ShipDict(TypedDict):
    """A ship."""

    tons: Annotated[int, ..., "its weight"]
    sails: Annotated[bool, ..., "whether it does"]


SHIP_SCHEMA = {
    "title": "Ship",
    "description": "A ship.",
    "type": "object",
    "properties": {"tons": {"type": "integer"}, "sails": {"type": "boolean"}},
    "required": ["tons"],
}
SHIP_FUNCTION = {
    "name": "Ship",
    "description": "A ship.",
    "parameters": {k: SHIP_SCHEMA[k] for k in ("type", "properties")},
}
SCHEMAS = [Ship, ShipV1, ShipDict, SHIP_SCHEMA, SHIP_FUNCTION, {"type": "function", "function": SHIP_FUNCTION}]


@pytest.fixture(params=ENGINES)
def chat(request: pytest.FixtureRequest) -> ChatHuggingFace:
    """A chat with a model whose weights are random, on each engine."""
    return ChatHuggingFace(llm=HuggingFacePipeline(**model_settings(request.param, "qwen2")), max_tokens=60)


def as_dict(answer: Any) -> dict[str, Any]:
    """An answer of any kind as a dictionary, after a look at its types."""
    if isinstance(answer, BaseModel):
        return answer.model_dump()
    return answer.dict() if isinstance(answer, BaseModelV1) else answer


@pytest.mark.parametrize(
    ("method", "strict"),
    [
        ("json_schema", None),
        ("json_schema", False),
        ("json_schema", True),
        ("function_calling", None),
        ("function_calling", True),
        ("json_mode", None),
    ],
)
@pytest.mark.parametrize("schema", SCHEMAS, ids=["v2", "v1", "typed", "schema", "function", "tool"])
def test_every_kind_of_schema_is_followed(
    chat: ChatHuggingFace,
    schema: Any,
    method: Any,
    strict: bool | None,  # noqa: FBT001 - a parameter of the test
) -> None:
    """By every method; a class gives objects of itself."""
    answer = chat.with_structured_output(schema, method=method, strict=strict).invoke("Tell me of a ship.")
    if isinstance(schema, type) and issubclass(schema, BaseModel | BaseModelV1):
        assert isinstance(answer, schema)
    assert as_dict(answer).keys() <= {"tons", "sails"}


def test_strict_demands_what_is_optional(chat: ChatHuggingFace) -> None:
    """As with OpenAI."""
    for question in ("Hello", "a", "b"):
        answer = chat.with_structured_output(SHIP_SCHEMA, strict=True).invoke(question)
        assert answer.keys() == {"tons", "sails"}


def test_strict_reaches_every_object_in_a_schema() -> None:
    """In lists, alternatives, definitions and properties."""

    class Fleet(BaseModel):
        flagship: Ship | None = None
        others: list[Ship] = []

    schema = json_schema(Fleet, strict=True)
    assert schema["required"] == ["flagship", "others"]
    assert schema["$defs"]["Ship"]["required"] == ["tons", "sails"]
    nested = {"type": "array", "items": {"anyOf": [{"properties": {"a": {"properties": {"b": True}}}}]}}
    (inner,) = json_schema(nested, strict=True)["items"]["anyOf"]
    assert (inner["required"], inner["properties"]["a"]["required"]) == (["a"], ["b"])
    assert "required" not in json_schema(Fleet)


async def test_a_stream_gives_what_is_there_and_in_the_end_all(chat: ChatHuggingFace) -> None:
    """Sync and async."""
    structured = chat.with_structured_output(SHIP_SCHEMA, strict=True)
    whole = structured.invoke("Tell me of a ship.")
    parts = list(structured.stream("Tell me of a ship."))
    assert parts[-1] == whole == await structured.ainvoke("Tell me of a ship.")
    assert len(parts) > 1


@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_the_message_comes_along_on_demand(chat: ChatHuggingFace, method: Any) -> None:
    """With `include_raw`."""
    answer = chat.with_structured_output(Ship, method=method, include_raw=True).invoke("Tell me of a ship.")
    assert isinstance(answer["raw"], AIMessage)
    assert isinstance(answer["parsed"], Ship)
    assert answer["parsing_error"] is None


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_an_answer_that_was_cut_off_is_an_error_that_names_the_limit(method: Any) -> None:
    """Not an answer whose brackets were closed by someone else."""
    long = {"title": "Log", "description": "A log.", "type": "object", "properties": {"log": {"type": "string"}}}
    long["properties"] = {"log": {"type": "string", "minLength": 200}}
    long["required"] = ["log"]
    short = ChatHuggingFace.from_model_id(str(language_models.folder("qwen2")), max_tokens=30)
    with pytest.raises(TruncatedAnswerError, match="max_tokens") as caught:
        short.with_structured_output(long, method=method).invoke("Tell me of a ship.")
    assert isinstance(caught.value, LocalHFError)
    assert isinstance(caught.value, OutputParserException)
    answer = short.with_structured_output(long, method=method, include_raw=True).invoke("Tell me of a ship.")
    assert answer["parsed"] is None
    assert isinstance(answer["parsing_error"], TruncatedAnswerError)


def test_a_model_may_reason_before_its_answer_follows_the_schema(chat: ChatHuggingFace) -> None:
    """Where its template has begun the reasoning; the answer has room all the same."""
    template = "{{ messages[0].content }}<think>\n"
    thinking = ChatHuggingFace(llm=chat.llm, max_tokens=60, chat_template_kwargs={"chat_template": template})
    structured = thinking.with_structured_output(Ship, include_raw=True)
    for question in ("Tell me of a ship.", "a", "b"):
        answer = structured.invoke(question)
        assert isinstance(answer["parsed"], Ship)
        assert answer["raw"].additional_kwargs["reasoning_content"]


def test_json_mode_needs_no_schema(chat: ChatHuggingFace) -> None:
    """Any object will do."""
    assert isinstance(chat.with_structured_output(method="json_mode").invoke("Tell me of a ship."), dict)


@pytest.mark.parametrize(
    "wanted",
    [
        {"type": "json_object"},
        {"type": "json_object", "schema": SHIP_SCHEMA},
        {"type": "json_schema", "json_schema": {"name": "ship", "schema": SHIP_SCHEMA, "strict": True}},
        Ship,
    ],
    ids=str,
)
def test_a_format_can_be_passed_with_a_call(chat: ChatHuggingFace, wanted: Any) -> None:
    """In OpenAI's forms, or as a class."""
    answer = json.loads(str(chat.invoke("Tell me of a ship.", response_format=wanted).content))
    assert isinstance(answer, dict)
    if wanted != {"type": "json_object"}:
        assert answer.keys() <= {"tons", "sails"}


def test_text_is_a_format_too(chat: ChatHuggingFace) -> None:
    """That changes nothing."""
    assert chat.invoke("Hello", response_format={"type": "text"}).content == chat.invoke("Hello").content


@pytest.mark.parametrize("wanted", ["json", {"type": "regex"}, {"type": "json_schema"}, {"schema": SHIP_SCHEMA}])
def test_another_format_is_refused(wanted: object) -> None:
    """With one that works."""
    with pytest.raises(InputError, match="response_format"):
        answer_schema(wanted)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schema": Ship, "method": "xml"}, "xml"),
        ({"schema": None}, "needs a schema"),
        ({"schema": None, "method": "function_calling"}, "needs a schema"),
        ({"schema": {"type": "object"}, "method": "function_calling"}, "no schema can be made"),
        ({"schema": int}, "no schema can be made"),
    ],
    ids=str,
)
def test_what_is_no_method_or_no_schema_is_refused(
    chat: ChatHuggingFace, arguments: dict[str, Any], message: str
) -> None:
    """At once, not at the first answer."""
    with pytest.raises(InputError, match=message):
        chat.with_structured_output(**arguments)
