"""The time that a training will take, from those that were timed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.records import make_run
from tests.training.conftest import MakePlan
from training.planning.duration import expected_duration
from training.planning.recomputation import arithmetic
from training.runs import EventLog, Run, RunStore


def timed(root: Path, *speeds: float, recipe: str = "[lora]\n", **status: object) -> Run:
    """A run on the tiny base that made so many tokens a second."""
    run = make_run(root, recipe, **{"base": "tiny", **status})
    log = EventLog(run.events_path)
    for step, speed in enumerate(speeds, start=1):
        log.append("train", step, loss=1.0, tokens_per_s=speed)
    log.close()
    return run


def test_it_is_the_tokens_of_all_steps_at_the_median_speed(
    tmp_path: Path, make_plan: MakePlan
) -> None:
    """A first slow step does not count for all."""
    run = timed(tmp_path, 1.0, 200.0, 300.0)
    plan = make_plan("training.max_steps=0", "training.epochs=2")

    pace = expected_duration(plan, RunStore(tmp_path), 0)

    assert pace is not None
    assert (pace.tokens_per_s, pace.run) == (200.0, run.id)
    assert pace.seconds == pytest.approx(2 * plan.report.tokens / 200.0)


def test_a_run_that_was_like_it_comes_first(tmp_path: Path, make_plan: MakePlan) -> None:
    """The same quantisation and batch before a newer one with others; other bases never."""
    plan = make_plan()
    alike = timed(tmp_path, 100.0, recipe=plan.recipe.toml(), started=1.0)
    timed(tmp_path, 900.0, started=2.0)
    timed(tmp_path, 900.0, recipe=plan.recipe.toml(), base="other", started=3.0)

    pace = expected_duration(plan, RunStore(tmp_path), 0)

    assert pace is not None
    assert pace.run == alike.id


@pytest.mark.parametrize("other", ["training.mode=throughput", "training.gradient_accumulation=7"])
def test_a_run_whose_steps_were_others_is_not_like_it(
    other: str, tmp_path: Path, make_plan: MakePlan
) -> None:
    """A fuller forward has another speed."""
    plan = make_plan()
    alike = timed(tmp_path, 100.0, recipe=plan.recipe.toml(), started=1.0)
    timed(tmp_path, 900.0, recipe=make_plan(other).recipe.toml(), started=2.0)

    pace = expected_duration(plan, RunStore(tmp_path), 0)

    assert pace is not None
    assert pace.run == alike.id


@pytest.mark.parametrize("told", [2, None])
def test_a_run_that_computed_other_layers_again_is_put_to_these(
    told: int | None, tmp_path: Path, make_plan: MakePlan
) -> None:
    """By the arithmetic; a run from before there was a choice says it by its recipe alone."""
    plan = make_plan("training.gradient_checkpointing=true")
    run = timed(tmp_path, 100.0, recipe=plan.recipe.toml())
    if told is not None:
        log = EventLog(run.events_path)
        for layers in (0, told):  # it gave way in the midst
            log.append("recomputation", 1, recomputed_layers=layers)
        log.close()

    kept, again = (expected_duration(plan, RunStore(tmp_path), layers) for layers in (0, 2))

    assert kept is not None
    assert again is not None
    assert again.tokens_per_s == 100.0
    assert kept.tokens_per_s == pytest.approx(100.0 * arithmetic(plan, 2))
    assert kept.seconds < again.seconds


def test_without_a_timed_run_nothing_is_guessed(tmp_path: Path, make_plan: MakePlan) -> None:
    """No runs, or none that came to a measurement."""
    assert expected_duration(make_plan(), RunStore(tmp_path), 0) is None
    timed(tmp_path)
    assert expected_duration(make_plan(), RunStore(tmp_path), 0) is None
