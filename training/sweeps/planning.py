"""What the trials of a sweep will take, and whether each of them can be trained at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from adapters.base import Base
from training.data.dataset import PreparedDataset
from training.errors import SweepError, TrainingError
from training.nn.model import training_device
from training.planning.duration import Speeds
from training.planning.feasibility import check_feasible
from training.planning.plan import planned_again
from training.planning.recomputation import Recomputation
from training.planning.space import needed_bytes
from training.recipe import Recipe, changed_recipe
from training.runs import RunStore
from training.stages import OnProgress, unheard
from training.sweeps.trials import sentence
from training.train import plan_training


class Estimate(msgspec.Struct, frozen=True):
    """Of one trial: optimiser steps, seconds for them where that is known, bytes on the disk."""

    steps: int
    seconds: float | None
    disk: int


def estimates(
    common: Recipe,
    trials: Iterable[Mapping[str, Any]],
    *,
    base: Base,
    dataset: PreparedDataset,
    runs: RunStore,
    registers: bool,
    on_progress: OnProgress = unheard,
) -> list[Estimate]:
    """Plan each of ``trials`` (values by field), all on the same dialogues, which are read once.

    Raises:
        SweepError: one cannot be trained, or, where the best is to be registered, not be served;
            or nothing is there to choose the best by.
        DataError: as :func:`training.planning.plan.make_plan`.
    """
    first = plan_training(base, common, dataset, on_progress)
    if not first.validation:
        raise SweepError(
            f"The best trial is the one with the lowest validation loss, and the dataset "
            f"'{dataset.name}' has no dialogues for validation. Prepare it with --valid FILE or a "
            "--valid-share."
        )
    speeds, device = Speeds(runs), training_device()
    found = []
    for values in trials:
        where = f"The trial {sentence(values)}"
        recipe = changed_recipe(common, values, where)
        if registers and not recipe.lora.is_served:
            raise SweepError(
                f"{where}: the server cannot serve lora.kind={recipe.lora.kind}, so it could not "
                "be registered. Leave it out, or add --no-register."
            )
        plan = planned_again(first, recipe)
        try:
            check_feasible(plan)
        except TrainingError as error:
            raise SweepError(f"{where}: {error}") from error
        pace = speeds.duration(plan, Recomputation.decided(plan, device).layers)
        seconds = pace.seconds if pace else None
        found.append(Estimate(plan.total_steps, seconds, needed_bytes(plan)))
    return found
