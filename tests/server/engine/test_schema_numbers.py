"""Numbers in schemas: what is not refused is held to."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal
from typing import Any

import llguidance
import pytest

from server.engine.schema_numbers import numbers_problem

BOUNDS = (0, 1, -1, 0.5, -0.5, 0.001, -0.1, 10, 1.5, 1e-5, -2.75)
NEAR = [Decimal(one) for one in ("0", "0.0001", "-0.0001", "1", "-1")]


def accepts(matcher: Any, text: str) -> bool:
    for byte in text.encode():
        mask = matcher.compute_bitmask()
        if matcher.is_stopped() or not mask[byte >> 3] >> (byte & 7) & 1:
            return False
        matcher.consume_token(byte)
    return bool(matcher.is_accepting())


@pytest.mark.parametrize("lower", ["minimum", "exclusiveMinimum"])
@pytest.mark.parametrize("upper", ["maximum", "exclusiveMaximum"])
def test_numbers_outside_of_an_interval_are_refused_or_cannot_be_said(
    lower: str, upper: str
) -> None:
    """What llguidance accepts of a whole number that an interval excludes is refused before."""
    tokens = llguidance.LLTokenizer("byte")
    for low, high in itertools.product(BOUNDS, BOUNDS):
        schema = {"type": "number", lower: low, upper: high}
        if low >= high or numbers_problem(schema) is not None:
            continue
        grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema))
        matcher = llguidance.LLMatcher(tokens, grammar, log_level=0)
        near = {Decimal(repr(bound)) + step for bound in (low, high) for step in NEAR}
        for text in {format(one, "f") for one in near} | {"-0", "-0.0"}:
            value = Decimal(text)
            low_d, high_d = Decimal(repr(low)), Decimal(repr(high))
            is_above = value > low_d if lower.startswith("ex") else value >= low_d
            is_below = value < high_d if upper.startswith("ex") else value <= high_d
            if not (is_above and is_below):
                assert not accepts(matcher.deep_copy(), text), (schema, text)


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"const": 2**53}, "const"),
        ({"properties": {"id": {"enum": ["a", {"b": [-(2**63)]}]}}}, "properties.id.enum"),
        ({"type": "integer", "maximum": 1e22}, "maximum"),
        ({"items": {"anyOf": [{}, {"minimum": 2**60}]}}, "items.anyOf[1].minimum"),
        ({"exclusiveMinimum": 0, "maximum": 0.5}, "exclusiveMinimum 0"),
        ({"minimum": -0.5, "exclusiveMaximum": 0.0}, "exclusiveMaximum 0"),
        ({"exclusiveMinimum": 1, "allOf": [{"maximum": 1.5}]}, "exclusiveMinimum 1"),
        (
            {"$defs": {"a": {"maximum": 0.5}}, "$ref": "#/$defs/a", "exclusiveMinimum": 0},
            "exclusiveMinimum 0",
        ),
    ],
)
def test_what_cannot_be_held_to_is_named(schema: dict[str, Any], named: str) -> None:
    """The way to it, wherever it is."""
    assert (numbers_problem(schema) or "").startswith(named)


@pytest.mark.parametrize(
    "schema",
    [
        {"const": 2**53 - 1},
        {"exclusiveMinimum": 0},
        {"exclusiveMinimum": 0, "maximum": 1},
        {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 1.5},
        {"properties": {"const": {"type": "integer"}}, "default": 2**60},
        {"properties": {"a": {"exclusiveMinimum": 0}, "b": {"maximum": 0.5}}},
        {"$ref": "#"},
    ],
)
def test_ordinary_numbers_are_accepted(schema: dict[str, Any]) -> None:
    """Properties may have the names of keywords, and bounds of two numbers are two things."""
    assert numbers_problem(schema) is None
