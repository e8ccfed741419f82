"""How short the JSON of a schema can be, and by how much one more token of it can lengthen what has to follow."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Schema: TypeAlias = "Mapping[str, Any] | bool"

_FORMATS = {
    "date": "2000-01-01",
    "time": "00:00:00Z",
    "date-time": "2000-01-01T00:00:00Z",
    "duration": "P1D",
    "email": "a@a.a",
    "hostname": "a",
    "ipv4": "1.1.1.1",
    "ipv6": "::",
    "uri": "a:a",
    "uuid": "00000000-0000-0000-0000-000000000000",
}
_OF_OBJECTS = ("properties", "required", "additionalProperties", "patternProperties", "minProperties")
_OF_ARRAYS = ("items", "prefixItems", "minItems", "maxItems")
_OF_STRINGS = ("pattern", "format", "minLength", "maxLength")


def shortest_instance(schema: Schema) -> str | None:
    """The shortest compact JSON text that the schema allows; None if every one would be endless.

    The text stands for its length: a string with a `pattern` is as long as the pattern, and does not match it.
    """
    return _Shortest(schema).text(schema)


def largest_addition(schema: Schema) -> str:
    """The longest text that a choice can add to the shortest: an optional property, an item, a longer alternative."""
    return max(_Shortest(schema).additions(schema), key=len, default="")


class _Shortest:
    def __init__(self, root: Schema) -> None:
        self._root = root

    def text(self, schema: Schema, within: frozenset[str] = frozenset()) -> str | None:
        """The shortest instance; None if there is none that does not hold a schema of `within` in itself."""
        if isinstance(schema, bool):
            return "0" if schema else None
        if "$ref" in schema:
            name = schema["$ref"]
            return None if name in within else self.text(self._resolved(name), within | {name})
        if "const" in schema or "enum" in schema:
            return _least(_json(value) for value in schema.get("enum", [schema.get("const")]))
        if "allOf" in schema:
            return self.text(self._merged(schema), within)
        if alternatives := _alternatives(schema):
            return _least(self.text(alternative, within) for alternative in alternatives)
        return self._of_type(schema, within)

    def additions(self, schema: Schema) -> Iterator[str]:
        """What each choice in the schema, at any depth, can add."""
        pending, seen = [schema], set[str]()
        while pending:
            node = pending.pop()
            if isinstance(node, bool):
                continue
            if "$ref" in node:
                if node["$ref"] not in seen:
                    seen.add(node["$ref"])
                    pending.append(self._resolved(node["$ref"]))
                continue
            node = self._merged(node) if "allOf" in node else node
            yield from self._own_additions(node)
            pending += [*_alternatives(node), *node.get("properties", {}).values(), *node.get("prefixItems", ())]
            pending += [*node.get("patternProperties", {}).values(), *_extra_schemas(node)]

    def _own_additions(self, node: Mapping[str, Any]) -> Iterator[str]:
        required = set(node.get("required", ()))
        for name, value in node.get("properties", {}).items():
            if name not in required:
                yield f"{_json(name)}:{self.text(value) or ''},"
        for value in (*node.get("prefixItems", ()), *node.get("patternProperties", {}).values(), *_extra_schemas(node)):
            yield f'"":{self.text(value) or ""},'
        choices = [self.text(alternative) for alternative in _alternatives(node)]
        choices += [_json(value) for value in node.get("enum", ())]
        finite = [choice for choice in choices if choice is not None]
        if finite:
            yield max(finite, key=len)[len(min(finite, key=len)) :]

    def _of_type(self, schema: Mapping[str, Any], within: frozenset[str]) -> str | None:
        match _type(schema):
            case "object":
                return self._object(schema, within)
            case "array":
                return self._array(schema, within)
            case "string":
                return _string(schema)
            case "boolean":
                return "true"
            case "null":
                return "null"
            case kind:
                return _number(schema, whole=kind == "integer")

    def _object(self, schema: Mapping[str, Any], within: frozenset[str]) -> str | None:
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        names = list(dict.fromkeys(schema.get("required", ())))
        values = {name: self.text(properties.get(name, others), within) for name in names}
        wanted = int(schema.get("minProperties", 0))
        for name in (*properties, *(f"x{number}" for number in range(wanted))):
            if len(values) >= wanted:
                break
            if name not in values and (value := self.text(properties.get(name, others), within)) is not None:
                values[name] = value
        if any(value is None for value in values.values()):
            return None
        return "{" + ",".join(f"{_json(name)}:{value}" for name, value in values.items()) + "}"

    def _array(self, schema: Mapping[str, Any], within: frozenset[str]) -> str | None:
        count = int(schema.get("minItems", 0))
        first = list(schema.get("prefixItems", ()))[:count]
        items = [self.text(item, within) for item in first]
        if count > len(first):
            items += [self.text(schema.get("items", True), within)] * (count - len(first))
        texts = [item for item in items if item is not None]
        return f"[{','.join(texts)}]" if len(texts) == len(items) else None

    def _resolved(self, reference: str) -> Schema:
        node: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            node = node[int(name)] if isinstance(node, list) else node.get(name, True) if node is not True else True
        schema: Schema = node
        return schema

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """One schema that asks for what all those in `allOf` do, roughly."""
        merged = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            seen: set[str] = set()
            while not isinstance(part, bool) and "$ref" in part and part["$ref"] not in seen:
                seen.add(part["$ref"])
                part = self._resolved(part["$ref"])  # noqa: PLW2901 - the same part, looked up
            if isinstance(part, bool):
                continue
            flat = self._merged(part) if "allOf" in part else part
            merged = {
                **merged,
                **flat,
                "properties": {**merged.get("properties", {}), **flat.get("properties", {})},
                "required": [*merged.get("required", ()), *flat.get("required", ())],
            }
        return merged


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _least(texts: Iterable[str | None]) -> str | None:
    return min((text for text in texts if text is not None), key=len, default=None)


def _alternatives(schema: Mapping[str, Any]) -> list[Schema]:
    """The schemas of which an instance has to meet one; none if there is no choice."""
    if kinds := next((schema[key] for key in ("anyOf", "oneOf") if key in schema), None):
        shared = {key: value for key, value in schema.items() if key not in {"anyOf", "oneOf"}}
        keep = shared.keys() & {*_OF_OBJECTS, *_OF_ARRAYS, *_OF_STRINGS}
        return [kind if isinstance(kind, bool) or not keep else {"allOf": [shared, kind]} for kind in kinds]
    if isinstance(schema.get("type"), list):
        return [{**schema, "type": kind} for kind in schema["type"]]
    return []


def _extra_schemas(schema: Mapping[str, Any]) -> Iterator[Schema]:
    """What items and properties that have no place or name of their own look like, where there may be any."""
    kind = _type(schema)
    for key, owner in (("items", "array"), ("additionalProperties", "object")):
        value = schema.get(key, kind == owner and not schema.get("properties"))
        if value is not False:
            yield value


def _type(schema: Mapping[str, Any]) -> str:
    kinds = (("object", _OF_OBJECTS), ("array", _OF_ARRAYS), ("string", _OF_STRINGS))
    implied = next((kind for kind, keys in kinds if any(key in schema for key in keys)), "number")
    return str(schema.get("type", implied))


def _string(schema: Mapping[str, Any]) -> str:
    least = int(schema.get("minLength", 0))
    known = _FORMATS.get(str(schema.get("format")), "")
    return _json((known or "x" * len(schema.get("pattern", ""))).ljust(least, "x"))


def _number(schema: Mapping[str, Any], *, whole: bool) -> str:
    """The number in the bounds that is nearest to zero, or nearly."""
    step = schema.get("multipleOf", 1 if whole else 0)
    low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
    high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
    if _within(schema, 0):
        return "0"
    sign, near, far = (1, low, high) if low >= 0 else (-1, -high, -low)
    found = math.ceil(near / step) * step if step else math.floor(near) + 1
    found = found if _within(schema, sign * found) or not step else found + step
    if not _within(schema, sign * found):
        found = (near + far) / 2
    return _json(sign * found)


def _within(schema: Mapping[str, Any], value: float) -> bool:
    least, most = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    return bool(least <= value <= most and above < value < below)
