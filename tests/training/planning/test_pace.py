"""The pace of a training: as many dialogues whatever the step, and forwards that are full."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.conftest import MakePlan
from training.nn.packing import packs
from training.planning.pace import Pace, dialogues_that_fill
from training.recipe import read_recipe

LENGTHS = np.random.default_rng(0).integers(20, 80, 4000)


def pace(*overrides: str) -> Pace:
    return Pace.of(read_recipe("qwen3-0.6b-lccc", overrides), LENGTHS)


def test_exact_mode_leaves_the_recipe_alone() -> None:
    """Eight dialogues a step as the seed has it, every number as it stands, and nothing to say."""
    recipe = read_recipe("qwen3-0.6b-lccc")

    found = Pace.of(recipe, LENGTHS)

    assert found.dialogues_per_step == 8
    assert found.recipe is recipe
    assert found.sentence(recipe, 100) is None


@pytest.mark.parametrize("limit", [512, 1024, 4096])
def test_steps_of_throughput_mode_fill_one_forward(limit: int) -> None:
    """Nearly all drawn steps fit in one forward, and one dialogue in ten more would not."""
    many = dialogues_that_fill(limit, LENGTHS)
    chance = np.random.default_rng(1)
    sums = [chance.choice(LENGTHS, many).sum() for _ in range(1000)]

    assert np.mean(np.array(sums) <= limit) > 0.95
    assert np.mean(sums) > 0.75 * limit


def test_numbers_of_steps_stand_for_as_many_dialogues_as_before() -> None:
    """Steps, warm-up, records and AdaLoRA's pauses shrink with the growth of the steps."""
    found = pace(
        "training.mode=throughput",
        "training.max_steps=1000",
        "training.warmup_steps=100",
        "training.scheduler=warmup_stable_decay",
        "training.scheduler_options={num_decay_steps=200, min_lr_ratio=0.1}",
    )

    times = found.dialogues_per_step / 8
    training, record = found.recipe.training, found.recipe.record
    assert times > 8
    assert training.max_steps == round(1000 / times)
    assert training.warmup_steps == round(100 / times)
    assert training.scheduler_options == {
        "num_decay_steps": round(200 / times),
        "min_lr_ratio": 0.1,
    }
    assert record.evaluate_every == round(500 / times)
    assert record.log_every == found.recipe.adalora.every == 1
    assert record.keep_checkpoints == 3


@pytest.mark.parametrize(("rule", "power"), [("sqrt", 0.5), ("linear", 1.0), ("none", 0.0)])
def test_the_learning_rate_grows_by_the_recipes_rule(rule: str, power: float) -> None:
    """By the square root unless the recipe says otherwise; and it is said."""
    overrides = ("training.mode=throughput", f"training.learning_rate_scaling={rule}")
    asked, found = read_recipe("qwen3-0.6b-lccc", overrides), pace(*overrides)

    rate = found.recipe.training.learning_rate
    assert rate == pytest.approx(2e-4 * (found.dialogues_per_step / 8) ** power)
    said = found.sentence(asked, 44)
    assert said is not None
    assert f"{found.dialogues_per_step} dialogues a step instead of 8" in said
    assert "44 steps in all" in said
    assert ("instead of 0.0002" in said) == (rule != "none")


def test_a_plan_in_throughput_mode_is_one_forward_a_step(make_plan: MakePlan) -> None:
    """Of at most so many tokens; steps and identity follow."""
    exact, plan = (
        make_plan(),
        make_plan("training.mode=throughput", "training.tokens_per_forward=800"),
    )

    sizes = [one.tokens for one in packs(plan.step_examples(0), plan.tokens_per_forward)]
    assert plan.tokens_per_forward == 800
    assert len(sizes) == 1
    assert plan.pace.dialogues_per_step > exact.pace.dialogues_per_step
    assert plan.total_steps < exact.total_steps
    assert plan.identity["batch"] == (
        f"{plan.pace.dialogues_per_step} in 800 tokens instead of 2 x 2, learning rate sqrt"
    )


def test_tokens_per_forward_bounds_exact_mode_too(make_plan: MakePlan) -> None:
    """The step keeps its dialogues and is cut into smaller forwards."""
    plan = make_plan("training.tokens_per_forward=300")

    sizes = [one.tokens for one in packs(plan.step_examples(0), plan.tokens_per_forward)]
    assert plan.pace.dialogues_per_step == 4
    assert len(sizes) > 1
    assert plan.identity == make_plan().identity
