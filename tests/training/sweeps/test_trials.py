"""From a file to its trials: all of them, the same ones every time, none of them twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.sweeps.writing import sweep
from training.errors import SweepError
from training.recipe import changed_recipe, read_recipe
from training.sweeps.trials import expand, overrides, sentence

DRAWN: dict[str, Any] = {
    "lora.r": [4, 8, 16],
    "training.learning_rate": {"min": 1e-5, "max": 1e-2, "scale": "log"},
}


def drawn(root: Path, trials: int, fields: dict[str, Any] = DRAWN, seed: int = 7) -> list[Any]:
    definition = sweep(root, fields, search="random", trials=trials, seed=seed)
    return [trial.values for trial in expand(definition).trials]


def test_a_grid_has_every_combination_the_last_field_first(tmp_path: Path) -> None:
    """In the order of the file, with the recipe that each stands for."""
    trials, duplicates = expand(sweep(tmp_path))

    values = [(one.values["lora.r"], one.values["training.learning_rate"]) for one in trials]
    assert values == [(4, 1e-3), (4, 1e-2), (8, 1e-3), (8, 1e-2)]
    assert duplicates == 0
    assert [(one.recipe.lora.r, one.recipe.training.learning_rate) for one in trials] == values


def test_draws_depend_on_the_seed_alone(tmp_path: Path) -> None:
    """The first ones are the same of any number, and in any order of the fields."""
    first = drawn(tmp_path, 5)

    assert drawn(tmp_path, 5) == first
    assert drawn(tmp_path, 12)[:5] == first
    assert drawn(tmp_path, 5, dict(reversed(DRAWN.items()))) == first
    assert drawn(tmp_path, 5, seed=8) != first


def test_draws_stay_what_they_were(tmp_path: Path) -> None:
    """A sweep goes on with a newer version and on another Python: these are written down."""
    values = [(one["lora.r"], one["training.learning_rate"]) for one in drawn(tmp_path, 3)]

    assert values == [(16, 2.28647e-05), (4, 0.000806439), (16, 0.000658583)]


def test_the_same_training_is_no_second_trial(tmp_path: Path) -> None:
    """Also where it is written otherwise; how many there were is told."""
    trials, duplicates = expand(sweep(tmp_path, {"lora.alpha": [8, 8.0, 16], "lora.r": [4, 4]}))

    assert [sentence(one.values) for one in trials] == [
        "lora.alpha=8, lora.r=4",
        "lora.alpha=16, lora.r=4",
    ]
    assert duplicates == 4


def test_values_that_do_not_go_together_are_named(tmp_path: Path) -> None:
    """Each alone would do; the message has the trial and the recipe's own reason."""
    fields = {"lora.kind": ["lora", "adalora"], "adalora.initial_r": [16, 32]}

    with pytest.raises(SweepError) as refusal:
        expand(sweep(tmp_path, fields))

    assert "the trial lora.kind=adalora, adalora.initial_r=16: " in str(refusal.value)
    assert "adalora.initial_r (16) must be above lora.r (16)" in str(refusal.value)


def test_overrides_say_the_values_as_set_takes_them() -> None:
    """Text that looks like a number, lists and tables come out of it as they went in."""
    values = {
        "lora.kind": "rslora",
        "lora.target_modules": ["q_proj", "v_proj"],
        "training.scheduler": "cosine_with_min_lr",
        "training.scheduler_options": {"min_lr_rate": 0.1},
        "training.gradient_checkpointing": False,
        "training.learning_rate": 1e-05,
        "training.seed": 3,
    }

    told = read_recipe("pocket", overrides(values))

    assert told == changed_recipe(read_recipe("pocket"), values, "x")
