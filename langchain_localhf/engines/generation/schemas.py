"""Changes to JSON schemas, which hold other schemas in many places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# Where a schema holds others: as such, in lists, by name.
_PLAIN = ("items", "additionalProperties", "prefixItems", "anyOf", "oneOf", "allOf")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")
_COMBINING = frozenset({"anyOf", "oneOf", "allOf", "$ref", "if", "unevaluatedProperties"})

Schema = dict[str, Any]


def mapped(schema: Any, change: Callable[[Schema], Schema]) -> Any:  # noqa: ANN401 - a schema can be True, too
    """A copy of a schema with `change` applied to each schema in it, inner ones first, and to itself."""
    if isinstance(schema, list):
        return [mapped(one, change) for one in schema]
    if not isinstance(schema, dict):
        return schema
    copy = dict(schema)
    for key in copy.keys() & {*_PLAIN}:
        copy[key] = mapped(copy[key], change)
    for key in copy.keys() & {*_NAMED}:
        if isinstance(copy[key], dict):
            copy[key] = {name: mapped(one, change) for name, one in copy[key].items()}
    return change(copy)


def closed(schema: Schema) -> Schema:
    """The schema with objects that hold nothing but the properties it names, wherever it does not say otherwise.

    An object that names none stays free. So do all where several schemas describe one object together, because each of
    them knows only its part.
    """
    combined = False

    def close(node: Schema) -> Schema:
        nonlocal combined
        combined |= bool("properties" in node and node.keys() & _COMBINING) or len(node.get("allOf", ())) > 1
        is_open = node.keys() & {"additionalProperties", "patternProperties"} or not node.get("properties")
        return node if is_open else {**node, "additionalProperties": False}

    changed = dict(mapped(schema, close))
    return schema if combined else changed


def complete(schema: Schema) -> Schema:
    """The schema with every property of every object required."""
    return dict(
        mapped(schema, lambda node: {**node, "required": list(node["properties"])} if "properties" in node else node)
    )
