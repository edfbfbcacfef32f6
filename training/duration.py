"""How long a training will take, judged by those that this machine has timed."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import msgspec

from training.errors import TrainingError
from training.plan import Plan
from training.recipe import Recipe, decode_recipe
from training.runs import Run, RunStore

_RECENT = 20


@dataclass(frozen=True)
class Duration:
    """So many seconds at ``tokens_per_s``, the median speed of the run ``run``."""

    seconds: float
    tokens_per_s: float
    run: str


def expected_duration(plan: Plan, runs: RunStore) -> Duration | None:
    """The time that the steps of ``plan`` take at the speed of the newest run that was like it.

    Like it is a run on the same base, if there is one with the same quantisation, mode and step.
    Validation and loading come on top. ``None`` where no run on this base has been timed.
    """
    timed = [run for run in runs.all()[:_RECENT] if run.status().base == plan.base.name]
    for run in sorted(timed, key=lambda one: not _is_alike(one, plan.recipe)):
        speeds = [event.tokens_per_s for event in run.events() if event.tokens_per_s]
        if speeds:
            speed = median(speeds)
            tokens = plan.report.tokens * plan.total_steps / plan.steps_per_epoch
            return Duration(tokens / speed, speed, run.id)
    return None


def _is_alike(run: Run, recipe: Recipe) -> bool:
    try:
        made_with = decode_recipe(run.recipe_path.read_text("utf-8"), str(run.recipe_path))
    except (OSError, ValueError, TrainingError):
        return False
    return _speed_of(made_with) == _speed_of(recipe)


def _speed_of(recipe: Recipe) -> tuple[object, ...]:
    training = recipe.training
    return (
        msgspec.structs.astuple(recipe.quantization),
        training.mode,
        training.tokens_per_forward,
        training.dialogues_per_step,
        training.gradient_checkpointing,
    )
