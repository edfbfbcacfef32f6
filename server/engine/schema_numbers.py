"""Which numbers of a JSON schema replies would not be held to, so that it has to be refused.

llguidance 1.9 reckons in doubles, so it changes integers beyond 2^53, and takes the whole number
that an interval narrower than one excludes for a part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

# The largest integer that all JSON readers keep, https://www.rfc-editor.org/rfc/rfc8259#section-6
MOST_INTEGER = 2**53 - 1
_LOWER, _UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_VALUES = ("const", "enum", *_LOWER, *_UPPER, "multipleOf")
# Keywords that hold schemas by name, and those that hold none.
NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
NO_SCHEMAS = (*_VALUES, "default", "examples")
_TOGETHER = ("allOf", "anyOf", "oneOf")


def numbers_problem(schema: Mapping[str, Any]) -> str | None:
    """The first of its numbers that cannot be held to, with the way to it; or nothing."""
    return next(_problems(schema, schema, ""), None)


def _problems(schema: Any, root: Mapping[str, Any], where: str) -> Iterator[str]:
    if not isinstance(schema, Mapping):
        return
    for key in _VALUES:
        if key in schema and _has_large(schema[key]):
            yield (
                f"{where}{key} has an integer beyond ±{MOST_INTEGER} (2^53 - 1), which would be "
                "changed; use a string, or leave the bound out."
            )
    if schema.get("type") != "integer" and (bound := _narrow(list(_merged(schema, root)))):
        key, number = bound
        yield (
            f"{where}{key} {number} excludes a whole number from an interval narrower than 1, "
            "which replies cannot be held to; use a bound just inside of it."
        )
    for key, value in schema.items():
        if key in NAMED and isinstance(value, Mapping):
            for name, each in value.items():
                yield from _problems(each, root, f"{where}{key}.{name}.")
        elif key not in NO_SCHEMAS:
            for index, each in enumerate(value if isinstance(value, list) else ()):
                yield from _problems(each, root, f"{where}{key}[{index}].")
            yield from _problems(value, root, f"{where}{key}.")


def _has_large(value: Any) -> bool:
    """Whether an integer that doubles do not keep is in it. Larger ones were read as doubles."""
    if isinstance(value, Mapping):
        return any(map(_has_large, value.values()))
    if isinstance(value, list):
        return any(map(_has_large, value))
    is_integer = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return is_integer and abs(value) > MOST_INTEGER


def _merged(
    schema: Any, root: Mapping[str, Any], levels: int = 8
) -> Iterator[tuple[str, int | float]]:
    """The bounds that may hold for one number: those here, and of what is combined with them."""
    if not isinstance(schema, Mapping) or not levels:
        return
    for key in (*_LOWER, *_UPPER):
        if isinstance(schema.get(key), int | float):
            yield key, schema[key]
    for key in _TOGETHER:
        parts = schema.get(key)
        for each in parts if isinstance(parts, list) else ():
            yield from _merged(each, root, levels - 1)
    if isinstance(schema.get("$ref"), str):
        yield from _merged(_referred(schema["$ref"], root), root, levels - 1)


def _referred(pointer: str, root: Mapping[str, Any]) -> Any:
    """What a pointer into this schema means; nothing for others, which llguidance refuses."""
    found: Any = root
    for step in pointer.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _narrow(bounds: list[tuple[str, int | float]]) -> tuple[str, int | float] | None:
    """An exclusive bound that is whole, with another less than one from it on the other side."""
    lower = [bound for bound in bounds if bound[0] in _LOWER]
    upper = [bound for bound in bounds if bound[0] in _UPPER]
    for low, high in product(lower, upper):
        for key, number in (low, high):
            is_excluded = key.startswith("exclusive") and float(number).is_integer()
            if is_excluded and 0 < high[1] - low[1] < 1:
                return key, number
    return None
