"""The fields of a sweep: what they are called, what they may be, and what is drawn of them."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from training.errors import TrainingError
from training.recipe import Recipe
from training.sweeps.axis import REFUSED, Choices, Range, read_axes

LIST = "write a list of values"
RANGE = {"min": 1, "max": 2}


def refused(fields: dict[str, Any]) -> str:
    with pytest.raises(TrainingError) as refusal:
        read_axes(fields, "x.toml")
    return str(refusal.value)


@pytest.mark.parametrize(
    "fields",
    [{"lora.r": [4, 8]}, {"r": [4, 8]}, {"lora": {"r": [4, 8]}}],
    ids=["quoted", "short", "nested"],
)
def test_a_field_is_named_as_for_set_or_as_toml_nests_it(fields: dict[str, Any]) -> None:
    """Quoted, by its last part alone, or unquoted, which TOML takes for a table."""
    assert read_axes(fields, "x") == (Choices(("lora.r",), ((4,), (8,))),)


def test_several_fields_vary_together() -> None:
    """With commas between; each row has a value for each, in the type of its field."""
    (axis,) = read_axes({"lora.r, lora.alpha": [[4, 8], [8, 16]]}, "x")

    assert axis == Choices(("lora.r", "lora.alpha"), ((4, 8.0), (8, 16.0)))
    assert isinstance(axis.rows[0][1], float)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"lora.r": [4, 8, "x"]}, 'x.toml: fields."lora.r"[2]: Expected `int`, got `str`.'),
        ({"lora.r": [0]}, 'x.toml: fields."lora.r"[0]: Expected `int` >= 1.'),
        ({"lora": {"r": [0]}}, "x.toml: fields.lora.r[0]: Expected `int` >= 1."),
        ({"lora.kind": ["lora", "qlora"]}, "[1]: Invalid enum value 'qlora'"),
        ({"r, alpha": [[4, 8], [4, -1]]}, 'fields."r, alpha"[1][1]: Expected `float` > 0'),
        ({"r, alpha": [[4, 8], [4]]}, 'fields."r, alpha"[1]: write a list of 2 values, of lora.r'),
        ({"learning_rate": [1e-4, float("inf")]}, "fields.learning_rate[1]: a finite number"),
        ({"lora.rank": [4]}, 'x.toml: fields."lora.rank": there is no such field. Fields: prompt.'),
        ({"lora.r": 4}, f'fields."lora.r": {LIST}'),
        ({"lora.r": []}, f'fields."lora.r": {LIST}'),
        ({"r": [4], "lora.r": [8]}, 'fields."lora.r": lora.r varies in fields.r too.'),
        ({"lora.r": {"min": 0, "max": 4}}, 'fields."lora.r".min: Expected `int` >= 1.'),
        ({"lora.r": {"min": 4, "max": 4096}}, 'fields."lora.r".max: Expected `int` <= 1024.'),
        ({"lora.r": {"min": 1.5, "max": 4}}, 'fields."lora.r".min: Expected `int`, got `float`.'),
        ({"lora.r": {"min": 8, "max": 4}}, "min (8) must be below max (4)."),
        ({"lora.dropout": {"min": 0, "max": 0.1, "scale": "log"}}, "must be above 0 on a log"),
        ({"lora.r": {"min": 8, "maximum": 4}}, "a range is written { min = 1e-5, max = 1e-3, sc"),
        ({"lora.kind": RANGE}, "only a single number has a range"),
        ({"lora.r, lora.alpha": RANGE}, "only a single number has a range"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_by_its_place_in_the_file(fields: dict[str, Any], said: str) -> None:
    """Which field, and which of its values, counted from 0."""
    assert said in refused(fields)


@pytest.mark.parametrize(
    "name", ["prompt.system", "record.evaluation_dialogues", "record.log_every"]
)
def test_what_would_make_losses_incomparable_may_not_vary(name: str) -> None:
    """It is refused by name, with the reason."""
    assert re.search(f'fields."{name}": {name} cannot vary: .*the recipe', refused({name: [1]}))


def test_refusals_are_of_fields_that_there_are() -> None:
    """A section or field that is renamed takes its refusal along."""
    for name in REFUSED:
        section, _, field = name.partition(".")
        owner = getattr(Recipe(), section)
        assert not field or field in owner.__struct_fields__


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_whole_numbers_stay_whole_and_reach_both_ends(scale: str) -> None:
    """A rank is never 7.3."""
    (axis,) = read_axes({"lora.r": {"min": 4, "max": 64, "scale": scale}}, "x")

    drawn = [axis.draw(at / 1000)[0] for at in range(1000)]

    assert (drawn[0], drawn[-1]) == (4, 64)
    assert {type(value) for value in drawn} == {int}
    assert drawn == sorted(drawn)
    half = drawn[500]
    assert half == (16 if scale == "log" else 34)


def test_fractions_are_within_their_range_in_few_digits() -> None:
    """On a logarithmic scale the middle is the geometric one; six digits can be typed."""
    (axis,) = read_axes({"learning_rate": {"min": 1e-5, "max": 1e-3, "scale": "log"}}, "x")
    assert isinstance(axis, Range)

    drawn = [axis.draw(share)[0] for share in (0.0, 0.123456789, 0.5, 1 - 1e-12)]

    assert drawn[0] == 1e-5
    assert math.isclose(drawn[2], 1e-4)
    assert drawn[3] == 1e-3
    assert all(value == float(f"{value:.6g}") for value in drawn)
