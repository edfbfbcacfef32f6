"""Objects in schemas: only what they list is said, and what is said is valid as it was asked."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from server.engine.guidance import Guidance
from server.engine.schema_objects import closed
from server.engine.types import Function, Shape
from tests.server.engine.walking import walk
from tests.tiny import byte_tokenizer

CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"enum": ["北京", "上海"]}}}
SHUT = CITY | {"additionalProperties": False}


@pytest.mark.parametrize(
    ("schema", "narrower"),
    [
        (CITY, SHUT),
        ({"items": CITY}, {"items": SHUT}),
        ({"anyOf": [CITY, {"type": "null"}]}, {"anyOf": [SHUT, {"type": "null"}]}),
        (
            {"type": "object", "properties": {"at": {"$ref": "#/$defs/c"}}, "$defs": {"c": CITY}},
            {
                "type": "object",
                "properties": {"at": {"$ref": "#/$defs/c"}},
                "$defs": {"c": SHUT},
                "additionalProperties": False,
            },
        ),
    ],
    ids=["itself", "in a list", "one of several", "by reference"],
)
def test_objects_that_list_their_properties_have_no_others(
    schema: dict[str, Any], narrower: dict[str, Any]
) -> None:
    """Wherever they stand; their own order is kept."""
    assert closed(schema) == narrower
    assert list(closed(schema))[: len(schema)] == list(schema)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        CITY | {"additionalProperties": True},
        CITY | {"additionalProperties": {"type": "string"}},
        CITY | {"patternProperties": {"^x": {}}},
        CITY | {"required": ["city", "day"]},
        CITY | {"minProperties": 2},
        {"const": CITY},
        {"allOf": [CITY, {"type": "object", "properties": {"day": {"type": "string"}}}]},
        CITY | {"anyOf": [{"required": ["city"]}, {"required": ["day"]}]},
        {"allOf": [{"$ref": "#/$defs/c"}, {"properties": {"day": {}}}], "$defs": {"c": CITY}},
        CITY | {"$ref": "#/$defs/c", "$defs": {"c": {"properties": {"day": {}}}}},
    ],
)
def test_what_needs_others_is_left_alone(schema: dict[str, Any]) -> None:
    """Objects of any properties or of said others, and those put together of several schemas."""
    assert closed(schema) == schema


def test_a_model_invents_no_arguments() -> None:
    """Whatever it likes to say: calls and answers have the properties that are listed."""
    tokenizer = byte_tokenizer()
    guidance = Guidance(tokenizer, len(tokenizer))
    whole = 0
    for shape in (
        Shape(schema=CITY | {"required": ["city"]}),
        Shape(functions=(Function(name="f", parameters=CITY),), must_call=True, at_most_one=True),
    ):
        make = guidance.of_shape(shape)
        for seed in range(6):
            text, has_ended = walk(make(), tokenizer, seed)
            assert has_ended
            assert text.count('": ') + text.count('":"') <= 3, text
            whole += "city" in text
    assert whole >= 6


@pytest.mark.parametrize("value", [{}, {"city": "北京"}, {"city": "x"}, {"city": "上海", "a": 1}])
def test_the_narrower_schema_says_nothing_that_the_given_one_refuses(value: object) -> None:
    """What is valid in it is valid as the client asked."""
    if jsonschema.Draft202012Validator(closed(CITY)).is_valid(value):
        assert jsonschema.Draft202012Validator(CITY).is_valid(value)
