"""From a definition to its trials: all combinations, or some that a seed draws."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from training.errors import RecipeError, SweepError
from training.recipe import Recipe, changed_recipe
from training.sweeps.axis import Values, plain
from training.sweeps.definition import Definition


class Trial(msgspec.Struct, frozen=True):
    """One training: ``values`` by field, in the order of the file, and the recipe with them."""

    values: dict[str, Any]
    recipe: Recipe

    def changes(self, common: Recipe) -> dict[str, Any]:
        """What its recipe has otherwise than ``common``: two trials with the same are one."""
        usual = plain(common)
        return {
            name: value
            for name, value in sorted(self.values.items())
            if usual[name.partition(".")[0]][name.partition(".")[2]] != value
        }


class Trials(NamedTuple):
    """The trials in their order, and how many more were the same as one of them."""

    trials: list[Trial]
    duplicates: int


def expand(definition: Definition) -> Trials:
    """The trials of ``definition``; the same ones every time.

    Raises:
        SweepError: values do not go together; the message names the trial.
    """
    found, total = dict[bytes, Trial](), 0
    for rows in _rows(definition):
        values = [value for row in rows for value in row]
        trial = _trial(definition, dict(zip(definition.fields, values, strict=True)))
        key = msgspec.json.encode(trial.changes(definition.recipe), order="deterministic")
        found.setdefault(key, trial)
        total += 1
    return Trials(list(found.values()), total - len(found))


def sentence(values: Mapping[str, Any]) -> str:
    """Values by field as a person reads them: ``lora.r=8, training.learning_rate=0.0002``."""
    return ", ".join(f"{name}={shown(value)}" for name, value in values.items())


def shown(value: Any) -> str:
    """One value for a person."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return "+".join(map(shown, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rows(definition: Definition) -> Iterator[tuple[Values, ...]]:
    if definition.search == "grid":
        yield from itertools.product(*(axis.rows for axis in definition.axes))  # type: ignore[union-attr] # a grid has only choices
        return
    # Each axis has draws of its own, so that the first are the same whatever the number of trials
    # and the order of the file. Only random() is promised to stay as it is by every Python.
    draws = [
        random.Random(f"{definition.seed} {','.join(axis.fields)}")  # noqa: S311 # no secret
        for axis in definition.axes
    ]
    for _ in range(definition.draws):
        yield tuple(
            axis.draw(draw.random()) for axis, draw in zip(definition.axes, draws, strict=True)
        )


def _trial(definition: Definition, values: dict[str, Any]) -> Trial:
    where = f"{definition.source}: the trial {sentence(values)}"
    try:
        return Trial(values, changed_recipe(definition.recipe, values, where))
    except RecipeError as error:
        raise SweepError(str(error)) from error


def overrides(values: Mapping[str, Any]) -> list[str]:
    """The same as ``--set`` takes them: ``section.field=value``, the value in TOML."""
    return [f"{name}={_toml(value)}" for name, value in values.items()]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        pairs = ", ".join(f"{_toml(name)} = {_toml(below)}" for name, below in value.items())
        return f"{{{pairs}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return msgspec.json.encode(value).decode()  # of text and numbers, JSON is TOML too
