"""An axis of a sweep: recipe fields that vary together, and where their values come from.

In the file it is a key of the table ``fields``: one field, or several with commas between, and as
its value a list, or for one field that is a number, a range to draw from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import msgspec

from training.errors import SweepError
from training.recipe import Recipe, recipe_field
from training.settings import not_finite

DIGITS = 6  # significant ones of a number that is drawn, so that it can be read and typed

# What may not vary, by section or field, and why.
_COMPARED = "the validation loss would be measured on something else, and trials not be comparable"
REFUSED = {
    "prompt": f"{_COMPARED}; set it in the recipe, for all trials alike",
    "record.evaluation_dialogues": f"{_COMPARED}; set it in the recipe, for all trials alike",
    "record": "it says what is measured and kept, and changes nothing that is learnt; whoever is "
    "measured more often would win by that alone. Set it in the recipe, for all trials alike",
    "generation": "it is for replies of the server, and the training would be the same; set it in "
    "the recipe",
}

Values: TypeAlias = tuple[Any, ...]


class Choices(msgspec.Struct, frozen=True):
    """``fields`` and the rows of values, one for each of them, that they may take."""

    fields: tuple[str, ...]
    rows: tuple[Values, ...]

    def draw(self, share: float) -> Values:
        """The row at ``share`` (0 to 1, without 1) of all."""
        return self.rows[math.floor(share * len(self.rows))]


class Range(msgspec.Struct, frozen=True):
    """The one field of ``fields``, and the numbers from ``low`` to ``high`` that it may take.

    They are whole numbers where it ``is_whole``.
    On the scale ``log`` ratios of one size are equally likely, else differences of one size.
    """

    fields: tuple[str, ...]
    low: float
    high: float
    scale: Literal["linear", "log"]
    is_whole: bool

    def draw(self, share: float) -> Values:
        """The number at ``share`` (0 to 1, without 1) of the way."""
        end = self.high + 1 if self.is_whole else self.high
        if self.scale == "log":
            found = self.low * (end / self.low) ** share
        else:
            found = self.low + share * (end - self.low)
        drawn = math.floor(found) if self.is_whole else float(f"{found:.{DIGITS}g}")
        return (type(drawn)(min(max(drawn, self.low), self.high)),)


Axis: TypeAlias = Choices | Range


class _Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    min: Any
    max: Any
    scale: Literal["linear", "log"] = "linear"


def read_axes(fields: Mapping[str, Any], source: str) -> tuple[Axis, ...]:
    """The axes in the table ``fields`` of a sweep's file, which ``source`` names in errors.

    Raises:
        SweepError, RecipeError: a field does not exist, may not vary or is there twice, or a value
            is out of its bounds; the message names it as ``fields."lora.r"[2]``, from 0.
    """
    axes, owners = [], dict[str, str]()
    for where, key, value in _items(fields):
        axis = _Reading(f"{source}: {where}", key).axis(value)
        for name in axis.fields:
            if name in owners:
                raise SweepError(f"{source}: {where}: {name} varies in {owners[name]} too.")
            owners[name] = where
        axes.append(axis)
    return tuple(axes)


def plain(value: Any) -> Any:
    """``value`` in the types of JSON alone, as records have it."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _items(fields: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(where it stands, key, value), also of ``[fields.lora]``, as TOML has ``lora.r`` unquoted."""
    for key, value in fields.items():
        if key in Recipe.__struct_fields__ and isinstance(value, dict):
            for name, below in value.items():
                yield f"fields.{key}.{name}", f"{key}.{name}", below
        else:
            yield f'fields."{key}"' if set(key) & set("., ") else f"fields.{key}", key, value


class _Reading:
    """One key of the table. ``where`` begins what is said of it."""

    def __init__(self, where: str, key: str) -> None:
        found = [recipe_field(name.strip(), where) for name in key.split(",")]
        self._where = where
        self._names = tuple(name for name, _ in found)
        self._types = [kind for _, kind in found]
        for name in self._names:
            reason = REFUSED.get(name) or REFUSED.get(name.partition(".")[0])
            if reason:
                raise SweepError(f"{where}: {name} cannot vary: {reason}.")

    def axis(self, value: Any) -> Axis:
        if isinstance(value, dict):
            return self._range(value)
        if not isinstance(value, list) or not value:
            raise SweepError(f"{self._where}: write a list of values, e.g. [1, 2].")
        rows = tuple(self._row(row, f"{self._where}[{at}]") for at, row in enumerate(value))
        return Choices(self._names, rows)

    def _row(self, row: Any, where: str) -> Values:
        if len(self._names) == 1:
            return (self._value(row, self._types[0], where),)
        if not isinstance(row, list) or len(row) != len(self._names):
            raise SweepError(
                f"{where}: write a list of {len(self._names)} values, of {', '.join(self._names)}."
            )
        return tuple(
            self._value(value, kind, f"{where}[{at}]")
            for at, (value, kind) in enumerate(zip(row, self._types, strict=True))
        )

    def _value(self, value: Any, kind: Any, where: str) -> Any:
        """``value`` in the type of its field, and in those of JSON."""
        if any(True for _ in not_finite(value)):
            raise SweepError(f"{where}: a finite number is needed.")
        try:
            return plain(msgspec.convert(value, kind))
        except msgspec.ValidationError as error:
            raise SweepError(f"{where}: {error}.") from error

    def _range(self, value: dict[str, Any]) -> Range:
        kind = msgspec.inspect.type_info(self._types[0])
        if len(self._names) > 1 or not isinstance(
            kind, msgspec.inspect.IntType | msgspec.inspect.FloatType
        ):
            raise SweepError(f"{self._where}: only a single number has a range; write a list.")
        try:
            bounds = msgspec.convert(value, _Bounds)
        except msgspec.ValidationError as error:
            raise SweepError(
                f"{self._where}: {error}; a range is written "
                '{ min = 1e-5, max = 1e-3, scale = "log" }.'
            ) from error
        low = self._value(bounds.min, self._types[0], f"{self._where}.min")
        high = self._value(bounds.max, self._types[0], f"{self._where}.max")
        if low >= high:
            raise SweepError(f"{self._where}: min ({low:g}) must be below max ({high:g}).")
        if bounds.scale == "log" and low <= 0:
            raise SweepError(f"{self._where}.min: must be above 0 on a logarithmic scale.")
        is_whole = isinstance(kind, msgspec.inspect.IntType)
        return Range(self._names, low, high, bounds.scale, is_whole)
