"""Changes to JSON schemas reach every schema in them, and nothing that only looks like one."""

from __future__ import annotations

from typing import Any

import pytest

from langchain_localhf.engines.generation.schemas import closed, complete

INNER: dict[str, Any] = {"type": "object", "properties": {"x": {"type": "integer"}}}
CLOSED = INNER | {"additionalProperties": False}


def holding(inner: dict[str, Any]) -> dict[str, Any]:
    """A schema with another one in many places."""
    return {
        "type": "object",
        "properties": {
            "properties": inner,
            "list": {"type": "array", "items": inner},
            "tuple": {"prefixItems": [inner, True]},
            "maybe": {"anyOf": [inner, {"type": "null"}]},
            "free": {"type": "object"},
            "open": INNER | {"additionalProperties": True},
        },
        "$defs": {"inner": inner},
        "examples": [INNER],
    }


def test_objects_hold_only_what_is_declared() -> None:
    """At every depth, unless the schema says otherwise."""
    assert closed(holding(INNER)) == holding(CLOSED) | {"additionalProperties": False}


@pytest.mark.parametrize(
    "combined",
    [{"properties": {"x": {}}, "anyOf": [{"required": ["x"]}, INNER]}, {"allOf": [INNER, {"properties": {"y": {}}}]}],
)
def test_objects_that_several_schemas_describe_stay_open(combined: dict[str, Any]) -> None:
    """Each of those schemas would forbid what the others name."""
    assert closed(combined) == combined


def test_every_property_can_be_required() -> None:
    """As OpenAI's strict mode wants it."""
    schema = complete({"properties": {"a": INNER, "b": {"default": 1}}, "required": ["a"]})
    assert schema["required"] == ["a", "b"]
    assert schema["properties"]["a"]["required"] == ["x"]


def test_the_schema_that_was_given_stays_as_it_is() -> None:
    """Its owner may use it elsewhere."""
    schema = holding(INNER)
    closed(schema)
    complete(schema)
    assert schema == holding(INNER)
