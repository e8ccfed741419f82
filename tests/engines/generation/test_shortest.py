"""How short the JSON of a schema can be."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from pydantic import BaseModel, Field

from langchain_localhf.engines.generation.shortest import largest_addition, shortest_instance


class Colour(Enum):
    """Two words of different lengths."""

    RED = "red"
    LONG = "light goldenrod yellow"


class Point(BaseModel):
    """Nested below."""

    x: int
    y: float
    note: str = ""


class Tree(BaseModel):
    """Holds itself, and can end."""

    value: int
    child: Tree | None
    children: list[Tree] = []


class Everything(BaseModel):
    """One of each."""

    name: str
    yes: bool
    colour: Colour
    maybe: Point | None
    points: Annotated[list[Point], Field(min_length=2)]
    kind: Literal["a"]
    pair: tuple[int, str]
    numbers: dict[str, int]
    large: Annotated[int, Field(ge=100)]
    negative: Annotated[int, Field(lt=-5)]
    seventh: Annotated[int, Field(gt=14, multiple_of=7)]
    small: Annotated[float, Field(gt=0, lt=1)]
    long: Annotated[str, Field(min_length=3)]


@pytest.mark.parametrize("model", [Point, Tree, Everything])
def test_the_shortest_instance_is_valid(model: type[BaseModel]) -> None:
    """A schema of pydantic's: required properties, references, alternatives, bounds."""
    text = shortest_instance(model.model_json_schema())
    assert text is not None
    model.model_validate_json(text)
    jsonschema.validate(json.loads(text), model.model_json_schema())


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (True, "0"),
        ({}, "0"),
        ({"type": "string"}, '""'),
        ({"type": "string", "minLength": 2}, '"xx"'),
        ({"type": ["string", "null"]}, '""'),
        ({"enum": ["long", 3, "a"]}, "3"),
        ({"const": "東京"}, '"東京"'),
        ({"anyOf": [{"type": "null"}, {"type": "integer"}]}, "0"),
        ({"type": "integer", "maximum": -3}, "-3"),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, "[true,true]"),
        ({"type": "array", "items": {"type": "boolean"}}, "[]"),
        ({"properties": {"a": {"type": "null"}, "b": {}}, "required": ["a"]}, '{"a":null}'),
        ({"type": "object", "minProperties": 1, "additionalProperties": {"type": "null"}}, '{"x0":null}'),
        ({"allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"required": ["b"]}]}, '{"a":0,"b":0}'),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}, "null"),
    ],
)
def test_the_shortest_instance_of(schema: Any, text: str) -> None:
    """One keyword each."""
    assert shortest_instance(schema) == text


def test_a_schema_that_cannot_end_has_no_shortest_instance() -> None:
    """An object that must hold another of its kind has no last one."""
    assert shortest_instance({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}) is None
    assert shortest_instance(False) is None  # noqa: FBT003 - a schema


def test_a_flat_object_of_required_properties_cannot_grow() -> None:
    """Every choice in it, but for the values, is made."""
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    assert largest_addition({**schema, "additionalProperties": False}) == ""


def test_optional_properties_items_and_alternatives_add() -> None:
    """What may be begun has to be completed; the longest counts, at any depth."""
    point = '{"x":0,"y":0}'
    assert point in largest_addition({"type": "array", "items": Point.model_json_schema()})
    assert len(largest_addition({"enum": ["a", "abcdef"]})) == 5
    nested = {"type": "object", "properties": {"optional": Point.model_json_schema()}, "required": []}
    assert largest_addition(nested) == '"optional":' + point + ","
    assert '"child":null' in largest_addition(Tree.model_json_schema())
