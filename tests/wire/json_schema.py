"""A small validator for JSON schemas: the keywords that our OpenAPI document and tests/data use, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any

_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
}
_FORMATS: Mapping[str, Callable[[str], object]] = {"ipv4": IPv4Address, "ipv6": IPv6Address}
_KEYWORDS = {
    "$ref", "type", "enum", "format", "properties", "required", "additionalProperties", "items", "minimum",
    "minLength", "maxLength", "minItems", "anyOf", "description", "$schema",
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
    if isinstance(value, str) and not _is_formed(value, schema.get("format")):
        yield f"{place}: {value} is no {schema['format']}"
    if "anyOf" in schema and all(any(problems(value, one, document)) for one in schema["anyOf"]):
        yield f"{place}: {value!r} is none of {schema['anyOf']}"
    if isinstance(value, int) and value < schema.get("minimum", value):
        yield f"{place}: {value} is too small"
    if isinstance(value, str) and len(value) > schema.get("maxLength", len(value)):
        yield f"{place}: too long"
    if isinstance(value, str) and len(value) < schema.get("minLength", 0):
        yield f"{place}: too short"
    if isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"{place}: too few"
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


def _is_formed(value: str, form: str | None) -> bool:
    if form == "date-time":
        with suppress(ValueError):
            return datetime.fromisoformat(value).tzinfo is not None
        return False
    if form is not None and form in _FORMATS:
        with suppress(ValueError):
            _FORMATS[form](value)
            return True
        return False
    return True


def _listed(kinds: str | list[str]) -> list[str]:
    return [kinds] if isinstance(kinds, str) else kinds
