"""What a sweep's file says: checked against the recipe before anything begins."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from adapters.base import DEFAULT_BASE
from training.errors import SweepError
from training.recipe import DEFAULT_RECIPE, Recipe, bundled_recipes, make_recipe, read_recipe
from training.sweeps.axis import Axis, Choices, read_axes

MOST_TRIALS = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # a trial's name has a hash besides

Search = Literal["grid", "random"]


class Definition(msgspec.Struct, frozen=True, kw_only=True):
    """A sweep as its file ``source`` has it.

    ``data`` names the dataset, ``base`` what ``--base`` takes, ``recipe`` is what all trials have
    in common. ``draws`` and ``seed`` are of a random search.
    """

    name: str
    data: str
    base: str
    recipe: Recipe
    search: Search
    axes: tuple[Axis, ...]
    draws: int
    seed: int
    source: Path

    @property
    def fields(self) -> list[str]:
        """The fields that vary, in the order of the file."""
        return [field for axis in self.axes for field in axis.fields]

    def toml(self, base: str, recipe: str) -> str:
        """A file that says the same from anywhere, with ``base`` and beside the file ``recipe``."""
        import tomli_w

        values: dict[str, Any] = {"name": self.name, "data": self.data}
        values |= {"base": base, "recipe": recipe, "search": self.search}
        if self.search == "random":
            values |= {"trials": self.draws, "seed": self.seed}
        axes = {", ".join(axis.fields): _written(axis) for axis in self.axes}
        return tomli_w.dumps(values | {"fields": axes})


def _written(axis: Axis) -> Any:
    """The value of ``axis`` in the table of fields."""
    if isinstance(axis, Choices):
        return [list(row) if len(axis.fields) > 1 else row[0] for row in axis.rows]
    kind = int if axis.is_whole else float
    return {"min": kind(axis.low), "max": kind(axis.high), "scale": axis.scale}


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The file's own shape."""

    name: str
    data: str
    fields: dict[str, Any]
    base: str = DEFAULT_BASE
    recipe: str | dict[str, dict[str, Any]] = DEFAULT_RECIPE
    search: Search = "grid"
    trials: Annotated[int, msgspec.Meta(ge=1)] | None = None
    seed: int | None = None


def read_sweep(path: Path) -> Definition:
    """The sweep in the TOML file ``path``. A recipe or base beside it is found from anywhere.

    Raises:
        SweepError, RecipeError: it cannot be read, or something in it is wrong; names the field.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SweepError(f"{path} cannot be read: {error.strerror}.") from error
    return parse_sweep(content, path)


def parse_sweep(content: bytes, path: Path) -> Definition:
    """The sweep that ``content`` says, which is, or would be, that of the file ``path``.

    Raises:
        SweepError, RecipeError: something in it is wrong; names the field.
    """
    file = _decoded(content, path)
    if not _NAME.fullmatch(file.name):
        raise SweepError(
            f"{path}: name: {file.name!a} cannot be used; a name is 1 to 100 of A-Z a-z 0-9 . _ - "
            "with a letter or digit first."
        )
    axes = read_axes(file.fields, str(path))
    if not axes:
        raise SweepError(f"{path}: fields: there is nothing to vary.")
    definition = Definition(
        name=file.name,
        data=file.data,
        base=_beside(path, file.base, "config.json"),
        recipe=_recipe(path, file.recipe),
        search=file.search,
        axes=axes,
        draws=file.trials or 0,
        seed=file.seed or 0,
        source=path,
    )
    _check_search(definition, file)
    return definition


def _decoded(content: bytes, path: Path) -> _File:
    try:
        return msgspec.convert(msgspec.toml.decode(content), _File)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$.")
        raise SweepError(f"{path}: {where.rstrip('`') or 'sweep'}: {problem}.") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # too long, nested too deep
        raise SweepError(f"{path} is not valid TOML: {error}") from error


def _recipe(path: Path, given: str | dict[str, dict[str, Any]]) -> Recipe:
    if isinstance(given, dict):
        return make_recipe(given, f"{path}: recipe")
    return read_recipe(given if given in bundled_recipes() else _beside(path, given))


def _beside(path: Path, given: str, part: str = "") -> str:
    """``given``, as a path where that file (or its file ``part``) lies beside the sweep's file."""
    place = path.absolute().parent / Path(given).expanduser()
    return str(place) if (place / part).is_file() else given


def _check_search(definition: Definition, file: _File) -> None:
    """Refuse what the kind of search cannot use, and more trials than anyone would wait for."""
    where = definition.source
    if definition.search == "random":
        if not definition.draws:
            raise SweepError(f'{where}: trials: search = "random" needs their number.')
        _check_size(definition, definition.draws, "trials: asks for")
        return
    for name in ("trials", "seed"):
        if getattr(file, name) is not None:
            raise SweepError(f'{where}: {name}: goes with search = "random"; a grid has all.')
    sizes = []
    for axis in definition.axes:
        if not isinstance(axis, Choices):
            raise SweepError(
                f"{where}: {axis.fields[0]}: a range is drawn from; write a list of values, or "
                'search = "random" with trials = N.'
            )
        sizes.append(len(axis.rows))
    _check_size(definition, math.prod(sizes), f"fields: {' x '.join(map(str, sizes))} values make")


def _check_size(definition: Definition, size: int, what: str) -> None:
    if size > MOST_TRIALS:
        raise SweepError(
            f"{definition.source}: {what} {size:,} trials, and {MOST_TRIALS:,} is the most. Leave "
            'values out, or draw some with search = "random" and trials = N.'
        )
