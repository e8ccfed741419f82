"""Answers that follow a schema: the constraint on what is written, and the parser of it."""

from __future__ import annotations

import json
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel
from pydantic.v1 import BaseModel as BaseModelV1

from langchain_localhf.engines.generation.schemas import complete
from langchain_localhf.errors import InputError, LocalHFError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.language_models import BaseChatModel, LanguageModelInput
    from langchain_core.output_parsers import BaseOutputParser
    from langchain_core.runnables import Runnable

Method = Literal["json_schema", "function_calling", "json_mode"]


class TruncatedAnswerError(LocalHFError, OutputParserException):
    """An answer that should follow a schema was cut off by its limit of tokens, so that it does not.

    Cause:
        `max_tokens` is too low for an answer in this form, or the model writes on inside of a text or a list that the
        schema does not bound.

    Fix:
        Raise `max_tokens`, ask for less, or bound the schema, as with `max_length` of a pydantic field. With
        `include_raw=True` the answer as far as it came is in the result.
    """


def structured(
    model: BaseChatModel,
    schema: dict[str, Any] | type | None,
    *,
    method: Method,
    include_raw: bool,
    strict: bool | None,
) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
    """A model whose answers follow a schema; see `ChatHuggingFace.with_structured_output`.

    Raises:
        InputError: There is no such method, or it needs a schema, or this is no schema.
    """
    if method not in ("json_schema", "function_calling", "json_mode"):
        msg = f"there is no method {method!r} for structured output"
        raise InputError(msg, hint='use "json_schema", "function_calling" or "json_mode"')
    if schema is None and method != "json_mode":
        raise InputError(f"the method {method!r} needs a schema", hint='pass a schema, or use method="json_mode"')
    described = {"kwargs": {"method": method, "strict": strict}, "schema": schema} if schema is not None else None
    parser: BaseOutputParser[Any]
    bound: Runnable[LanguageModelInput, AIMessage]
    if method == "function_calling" and schema is not None:
        name = _function_name(schema)
        bound = model.bind_tools([schema], tool_choice=name, strict=strict, ls_structured_output_format=described)
        parser = _tools_parser(schema, name)
    else:
        bound = model.bind(
            response_format=response_format(schema, method, strict=strict), ls_structured_output_format=described
        )
        parser = _json_parser(schema)
    if not include_raw:
        return bound | parser
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    not_parsed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=bound) | parsed.with_fallbacks([not_parsed], exception_key="parsing_error")


def response_format(schema: dict[str, Any] | type | None, method: Method, *, strict: bool | None) -> dict[str, Any]:
    """What has to be said with a call so that its answer follows a schema, in OpenAI's form."""
    if schema is None:
        return {"type": "json_object"}
    content = json_schema(schema, strict=strict)
    if method == "json_mode":
        return {"type": "json_object", "schema": content}
    named = {"name": content.get("title", "answer"), "schema": content}
    return {"type": "json_schema", "json_schema": named if strict is None else {**named, "strict": strict}}


def answer_schema(wanted: object) -> dict[str, Any] | None:
    """The JSON schema that a call's `response_format` asks for; None for free text.

    Raises:
        InputError: It is none of OpenAI's forms, and no schema.
    """
    if wanted is None:
        return None
    if isinstance(wanted, type):
        return json_schema(wanted)
    if isinstance(wanted, dict):
        kind, content = wanted.get("type"), wanted.get("json_schema")
        if kind == "text":
            return None
        if kind == "json_object":
            schema = wanted.get("schema")
            return {"type": "object"} if schema is None else json_schema(schema)
        if kind == "json_schema" and isinstance(content, dict) and "schema" in content:
            return json_schema(content["schema"], strict=content.get("strict"))
    msg = f"response_format should be one of OpenAI's forms, not {str(wanted)[:80]}"
    raise InputError(msg, hint='use {"type": "json_schema", "json_schema": {"name": ..., "schema": ...}}')


def json_schema(schema: dict[str, Any] | type, *, strict: bool | None = None) -> dict[str, Any]:
    """The JSON schema of answers, from any form that LangChain takes.

    Args:
        schema: A Pydantic class, a TypedDict, a JSON schema, or a function in OpenAI's form.
        strict: Whether optional fields have to be there too, as OpenAI's strict mode wants it.

    Raises:
        InputError: This is no schema.
    """
    written: Any
    if isinstance(schema, dict):
        function = schema.get("function", schema)
        written = function["parameters"] if isinstance(function.get("parameters"), dict) else schema
    elif issubclass(schema, BaseModel):
        written = schema.model_json_schema()
    elif issubclass(schema, BaseModelV1):
        written = schema.schema()
    else:
        try:
            written = convert_to_json_schema(schema)
        except (TypeError, ValueError, AttributeError) as error:
            raise _no_schema(schema) from error
    return complete(written) if strict else dict(written)


def _function_name(schema: dict[str, Any] | type) -> str:
    try:
        return str(convert_to_openai_tool(schema)["function"]["name"])
    except (TypeError, ValueError, KeyError) as error:
        raise _no_schema(schema) from error


def _no_schema(schema: object) -> InputError:
    msg = f"no schema can be made of {str(schema)[:80]}"
    return InputError(msg, hint="use a Pydantic class, a TypedDict, or a JSON schema with a title and a description")


class _Whole:
    """Refuses an answer that was cut off; LangChain's parsers would close its brackets and say nothing."""

    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:  # noqa: ANN401
        """Parses an answer; see `BaseOutputParser.parse_result`."""
        if not partial:
            _refuse_truncated(result[0])
        return super().parse_result(result, partial=partial)  # type: ignore[misc]


class _WholeJson(_Whole, JsonOutputParser):
    """Parses JSON into a dictionary."""


class _WholePydantic(_Whole, PydanticOutputParser[Any]):
    """Parses JSON into an object of a class."""


class _WholeToolsPydantic(_Whole, PydanticToolsParser):
    """Parses a tool call into an object of a class."""


class _WholeToolsJson(_Whole, JsonOutputKeyToolsParser):
    """Parses a tool call into a dictionary."""


def _json_parser(schema: dict[str, Any] | type | None) -> BaseOutputParser[Any]:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return _WholePydantic(pydantic_object=schema)
    return _WholeJson()


def _tools_parser(schema: dict[str, Any] | type, name: str) -> BaseOutputParser[Any]:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return _WholeToolsPydantic(tools=[schema], first_tool_only=True)
    return _WholeToolsJson(key_name=name, first_tool_only=True)


def _refuse_truncated(generation: Generation) -> None:
    if not isinstance(generation, ChatGeneration) or not isinstance(message := generation.message, AIMessage):
        return
    metadata: Mapping[str, Any] = message.response_metadata
    if metadata.get("finish_reason") != "length" or message.tool_calls:
        return
    try:
        json.loads(message.text)
    except ValueError as error:
        msg = "the answer reached its limit of tokens before it was complete, and is no JSON as it stands"
        raise TruncatedAnswerError(msg, hint="raise max_tokens, or ask for less") from error
