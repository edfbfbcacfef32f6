"""Objects of a JSON schema that list their properties and say nothing of others have no others.

By itself JSON Schema allows any, https://json-schema.org/understanding-json-schema/reference/object
#additionalproperties, and a small model then goes on inventing some until it is cut off. What is
said under the narrower schema is valid under the given one too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from server.engine.schema_numbers import NAMED, NO_SCHEMAS

_TOGETHER = ("allOf", "anyOf", "oneOf", "$ref", "$dynamicRef", "if", "not", "dependentSchemas")
_ABOUT_OTHERS = ("additionalProperties", "patternProperties", "unevaluatedProperties")


def closed(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """``schema`` with such objects closed.

    Left as it is where an object is put together of several schemas, each of which has to leave
    room for what the others list.
    """
    return schema if any(map(_is_put_together, _within(schema))) else _closed(schema)


def _is_put_together(schema: Mapping[str, Any]) -> bool:
    several = sum(key in schema for key in _TOGETHER)
    parts = schema.get("allOf")
    return (
        ("properties" in schema and several > 0)
        or several > 1
        or (isinstance(parts, list) and len(parts) > 1)
    )


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {key: _closed_below(key, value) for key, value in schema.items()}
    if _lists_all(schema):
        found["additionalProperties"] = False
    return found


def _closed_below(key: str, value: Any) -> Any:
    if key in NAMED and isinstance(value, Mapping):
        return {name: _closed(each) for name, each in value.items()}
    return value if key in NO_SCHEMAS else _closed(value)


def _lists_all(schema: Mapping[str, Any]) -> bool:
    """Whether an object of the properties that are listed, and of no others, can be valid."""
    listed = schema.get("properties")
    required, fewest = schema.get("required", ()), schema.get("minProperties", 0)
    return (
        isinstance(listed, Mapping)
        and not any(key in schema for key in _ABOUT_OTHERS)
        and isinstance(required, list | tuple)
        and all(name in listed for name in required)
        and isinstance(fewest, int)
        and fewest <= len(listed)
    )


def _within(schema: Any) -> Iterator[Mapping[str, Any]]:
    """All schemas in ``schema``, itself first."""
    if isinstance(schema, list):
        for each in schema:
            yield from _within(each)
    elif isinstance(schema, Mapping):
        yield schema
        for key, value in schema.items():
            if key in NAMED and isinstance(value, Mapping):
                yield from _within(list(value.values()))
            elif key not in NO_SCHEMAS:
                yield from _within(value)
