"""How long a training will take, judged by those that this machine has timed."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

import msgspec

from training.errors import TrainingError
from training.planning.plan import Plan
from training.planning.recomputation import arithmetic
from training.recipe import Recipe, decode_recipe
from training.runs import Run, RunStore

_RECENT = 20


@dataclass(frozen=True)
class Duration:
    """So many seconds at ``tokens_per_s``, the median speed of the run ``run``."""

    seconds: float
    tokens_per_s: float
    run: str


def expected_duration(plan: Plan, runs: RunStore, recomputed_layers: int) -> Duration | None:
    """The time that the steps of ``plan`` take at the speed of the newest run that was like it.

    Like it is a run on the same base, if there is one with the same quantisation, mode and step.
    If other than ``recomputed_layers`` computed their activations again there, its speed is put to
    these by the arithmetic that it takes.
    Validation and loading come on top. ``None`` where no run on this base has been timed.
    """
    return Speeds(runs).duration(plan, recomputed_layers)


class Speeds:
    """The newest of ``runs`` as they were when first looked at, for the times of many plans."""

    def __init__(self, runs: RunStore) -> None:
        self._bases = [(run, run.status().base) for run in runs.all()[:_RECENT]]
        self._speeds: dict[str, float | None] = {}
        self._recipes: dict[str, Recipe | None] = {}

    def duration(self, plan: Plan, recomputed_layers: int) -> Duration | None:
        """As :func:`expected_duration`."""
        for run in self._likeliest(plan):
            if (speed := self._speed(run)) is not None:
                then = self._recomputed_layers(run, plan)
                if then is not None:
                    speed *= arithmetic(plan, then) / arithmetic(plan, recomputed_layers)
                tokens = plan.report.tokens * plan.total_steps / plan.steps_per_epoch
                return Duration(tokens / speed, speed, run.id)
        return None

    def _likeliest(self, plan: Plan) -> list[Run]:
        """Those on the same base, first those whose steps were like the plan's."""
        timed = [run for run, base in self._bases if base == plan.base.name]
        return sorted(timed, key=lambda one: not self._is_alike(one, plan.recipe))

    def _speed(self, run: Run) -> float | None:
        """Tokens a second, the median of what was measured."""
        if run.id not in self._speeds:
            measured = [event.tokens_per_s for event in run.events() if event.tokens_per_s]
            self._speeds[run.id] = median(measured) if measured else None
        return self._speeds[run.id]

    def _recomputed_layers(self, run: Run, plan: Plan) -> int | None:
        """How many it ended with; where it does not say so, all or none by its recipe."""
        told = [one.recomputed_layers for one in run.events() if one.kind == "recomputation"]
        if told:
            return told[-1]
        made_with = self._recipe(run)
        if made_with is None or made_with.training.gradient_checkpointing == "auto":
            return None
        return made_with.training.gradient_checkpointing * plan.base.architecture.layers

    def _recipe(self, run: Run) -> Recipe | None:
        if run.id not in self._recipes:
            self._recipes[run.id] = _recipe_of(run)
        return self._recipes[run.id]

    def _is_alike(self, run: Run, recipe: Recipe) -> bool:
        made_with = self._recipe(run)
        return made_with is not None and _speed_of(made_with) == _speed_of(recipe)


def _recipe_of(run: Run) -> Recipe | None:
    try:
        return decode_recipe(run.recipe_path.read_text("utf-8"), str(run.recipe_path))
    except (OSError, ValueError, TrainingError):
        return None


def _speed_of(recipe: Recipe) -> tuple[object, ...]:
    training = recipe.training
    return (
        msgspec.structs.astuple(recipe.quantization),
        training.mode,
        training.tokens_per_forward,
        training.dialogues_per_step,
    )
