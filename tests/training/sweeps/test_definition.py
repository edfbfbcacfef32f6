"""A sweep's file: what it must and may say, and what it finds beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.base import DEFAULT_BASE
from tests.training.sweeps.writing import FIELDS, sweep, write
from training.errors import TrainingError
from training.recipe import read_recipe
from training.sweeps.definition import parse_sweep, read_sweep
from training.sweeps.trials import expand

MANY = {"lora.r": list(range(1, 41)), "training.seed": list(range(26))}


def test_what_is_left_out_is_as_for_train(tmp_path: Path) -> None:
    """The default base and recipe, and a grid."""
    found = sweep(tmp_path)

    assert (found.base, found.search) == (DEFAULT_BASE, "grid")
    assert found.recipe == read_recipe("qwen3-0.6b-lccc")
    assert found.fields == list(FIELDS)


def test_a_recipe_is_named_beside_the_file_or_written_in_it(tmp_path: Path) -> None:
    """A bundled one, a file that is found from any directory, or tables."""
    (tmp_path / "mine.toml").write_text("[lora]\nr = 3\n")

    assert sweep(tmp_path, recipe="pocket").recipe == read_recipe("pocket")
    assert sweep(tmp_path, recipe="mine.toml").recipe.lora.r == 3
    assert sweep(tmp_path, recipe={"training": {"epochs": 1}}).recipe.training.epochs == 1.0


def test_what_is_kept_of_a_file_says_the_same(tmp_path: Path) -> None:
    """Lists, fields that vary together, ranges and draws; with another way to base and recipe."""
    fields = {
        "lora.r, lora.alpha": [[4, 8], [8, 16]],
        "lora.target_modules": [["q_proj"], ["q_proj", "v_proj"]],
        "training.learning_rate": {"min": 1e-5, "max": 1e-3, "scale": "log"},
        "training.batch_size": {"min": 2, "max": 9},
    }
    first = sweep(tmp_path, fields, search="random", trials=7, seed=3)
    (tmp_path / "recipe.toml").write_text(first.recipe.toml())

    again = parse_sweep(first.toml("pocket", "recipe.toml").encode(), tmp_path / "sweep.toml")

    assert (again.base, again.recipe, again.axes) == ("pocket", first.recipe, first.axes)
    assert expand(again) == expand(first)


def test_a_base_beside_the_file_is_found_from_anywhere(tmp_path: Path) -> None:
    """A directory with a checkpoint; any other base is called as it is."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "config.json").touch()

    assert sweep(tmp_path, base="models").base == str(tmp_path / "models")
    assert sweep(tmp_path, base="pocket").base == "pocket"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"name": "../x"}, "rank.toml: name: '../x' cannot be used"),
        ({"name": "n" * 101}, "a name is 1 to 100 of"),
        ({"data": 3}, "rank.toml: data: Expected `str`, got `int`."),
        ({"dataset": "d"}, "unknown field `dataset`"),
        ({"search": "bayes"}, "rank.toml: search: Invalid enum value 'bayes'."),
        ({"search": "random"}, 'rank.toml: trials: search = "random" needs their number.'),
        ({"trials": 3}, 'rank.toml: trials: goes with search = "random"'),
        ({"seed": 3}, 'rank.toml: seed: goes with search = "random"'),
        ({"search": "random", "trials": 1001}, "trials: asks for 1,001 trials, and 1,000 is the"),
        ({"fields": MANY}, "rank.toml: fields: 40 x 26 values make 1,040 trials, and 1,000 is the"),
        ({"fields": {}}, "rank.toml: fields: there is nothing to vary."),
        ({"fields": {"lora.r": {"min": 1, "max": 2}}}, "lora.r: a range is drawn from"),
        ({"recipe": {"lora": {"r": 0}}}, "rank.toml: recipe: lora.r: Expected `int` >= 1."),
        ({"recipe": "none"}, "No recipe 'none'"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(
    tmp_path: Path, more: dict[str, Any], said: str
) -> None:
    """The file, the field, and what it would take."""
    with pytest.raises(TrainingError) as refusal:
        sweep(tmp_path, **more)

    assert said in str(refusal.value)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    """With the place where it cannot be read on."""
    path = write(tmp_path / "x.toml")
    path.write_text("name =")

    with pytest.raises(TrainingError, match=r"x\.toml is not valid TOML"):
        read_sweep(path)
