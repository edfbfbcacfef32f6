"""Whether a recipe's settings go together with the data and the number of steps, before a run."""

from __future__ import annotations

from training.errors import RecipeError
from training.optimizer import check_schedule
from training.planning.plan import Plan

NOT_SERVED = (
    "DoRA changes the lengths of the base's weights, which all adapters share: our server cannot "
    "serve the adapter, and it will not be registered. PEFT can load it from the run's directory."
)


def check_feasible(plan: Plan) -> None:
    """Refuse what would fail or be without effect only after the model has been loaded.

    Raises:
        RecipeError: the message names the field.
    """
    check_schedule(plan.pace.recipe.training, plan.total_steps)
    if plan.recipe.training.early_stopping_patience and not plan.validation:
        raise RecipeError(
            "training.early_stopping_patience needs a validation split, and the dataset "
            f"'{plan.dataset.name}' has none."
        )
    if plan.recipe.record.sample_every and not plan.validation:
        raise RecipeError(
            "record.sample_every needs a validation split, whose questions are asked, and the "
            f"dataset '{plan.dataset.name}' has none."
        )
    if plan.recipe.lora.kind == "adalora":
        _check_adalora(plan)


def _check_adalora(plan: Plan) -> None:
    adalora, steps = plan.recipe.adalora, plan.total_steps
    start, end = round(adalora.start * steps), max(1, round(adalora.end * steps))
    if start >= end or end < 2:  # noqa: PLR2004 - PEFT weighs ranks in the steps before the end
        raise RecipeError(
            f"adalora.start and adalora.end leave no step to take ranks away in: {steps} steps are "
            "too few. Train longer, or choose lora.kind=lora."
        )
