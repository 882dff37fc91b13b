"""A small validator for the schemas of our OpenAPI document: the keywords that it uses, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}
_KEYWORDS = {
    "$ref", "type", "enum", "format", "properties", "required", "additionalProperties", "items", "minimum",
    "maxLength", "description",
}  # fmt: skip


def problems(value: Any, schema: Mapping[str, Any], document: Mapping[str, Any], place: str = "$") -> Iterator[str]:
    """What in `value` is not as the schema says."""
    unknown = schema.keys() - _KEYWORDS
    assert not unknown, f"the validator does not know {unknown}"
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        yield from problems(value, document["components"]["schemas"][name], document, place)
        return
    if "type" in schema and not any(_is(value, kind) for kind in _listed(schema["type"])):
        yield f"{place}: {value!r} is no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{place}: {value!r} is none of {schema['enum']}"
    if isinstance(value, str) and schema.get("format") == "date-time" and datetime.fromisoformat(value).tzinfo is None:
        yield f"{place}: {value} has no zone"
    if isinstance(value, int) and value < schema.get("minimum", value):
        yield f"{place}: {value} is too small"
    if isinstance(value, str) and len(value) > schema.get("maxLength", len(value)):
        yield f"{place}: too long"
    if isinstance(value, list):
        for number, one in enumerate(value):
            yield from problems(one, schema.get("items", {}), document, f"{place}[{number}]")
    if isinstance(value, dict):
        yield from _of_object(value, schema, document, place)


def _of_object(
    value: dict[str, Any], schema: Mapping[str, Any], document: Mapping[str, Any], place: str
) -> Iterator[str]:
    properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    yield from (f"{place}: {name} is missing" for name in schema.get("required", ()) if name not in value)
    for name, one in value.items():
        if name in properties:
            yield from problems(one, properties[name], document, f"{place}.{name}")
        elif more is False:
            yield f"{place}: {name} is not in the document"
        elif isinstance(more, dict):
            yield from problems(one, more, document, f"{place}.{name}")


def _is(value: Any, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, _TYPES[kind])


def _listed(kinds: str | list[str]) -> list[str]:
    return [kinds] if isinstance(kinds, str) else kinds
