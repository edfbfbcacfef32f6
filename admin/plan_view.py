"""How a training's plan is shown: as tables for a person, as JSON for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from admin.context import AdminContext

if TYPE_CHECKING:
    from training.pace import Pace
    from training.plan import Plan


def print_plan(admin: AdminContext, plan: Plan, *, as_json: bool) -> None:
    """The resolved recipe, steps, memory, disk and time; nothing is trained.

    Raises:
        RecipeError: settings that do not go together.
    """
    from training.feasibility import NOT_SERVED, check_feasible
    from training.pace import expected_pace
    from training.runs import RunStore

    check_feasible(plan)
    pace = expected_pace(plan, RunStore(admin.home.runs))
    if as_json:
        admin.output.json(_as_data(plan, pace))
        return
    admin.output.data(plan.recipe.toml())
    admin.output.table(("plan", ""), _rows(plan, pace))
    if not plan.recipe.lora.is_served:
        admin.output.warn(NOT_SERVED)


def _rows(plan: Plan, pace: Pace | None) -> list[tuple[str, str]]:
    from training.space import needed_bytes

    report, memory = plan.report, plan.memory_estimate()
    per_step = plan.recipe.training.dialogues_per_step
    return [
        ("base", plan.base.name),
        ("dataset", plan.dataset.name),
        ("dialogues", f"{len(plan.train)} ({report.replies} replies)"),
        ("tokens an epoch", f"{report.tokens} ({report.target_tokens} with loss)"),
        ("cut to max_length", str(_cut(plan))),
        ("steps", f"{plan.total_steps} of {per_step} dialogues ({plan.steps_per_epoch} an epoch)"),
        ("trainable parameters", f"{plan.trainable_parameters:,}"),
        ("memory (estimate)", f"{sum(memory.values()) / 2**20:,.0f} MiB"),
        *((f"  {name}", f"{size / 2**20:,.0f} MiB") for name, size in memory.items()),
        ("disk (at most)", f"{needed_bytes(plan) / 2**20:,.0f} MiB"),
        ("time of the steps", _time(pace)),
    ]


def _time(pace: Pace | None) -> str:
    if pace is None:
        return "unknown until a run on this base has been timed"
    whole_s = round(pace.seconds)
    minutes, seconds = divmod(whole_s, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} at {pace.tokens_per_s:,.0f} tokens/s, as {pace.run}"


def _cut(plan: Plan) -> int:
    return sum(count for what, count in plan.report.cut.items() if what != "nothing")


def _as_data(plan: Plan, pace: Pace | None) -> dict[str, Any]:
    """The same as values; sizes are in bytes."""
    import msgspec

    from training.recipe import DEFAULT_RECIPE, read_recipe
    from training.space import needed_bytes

    recipe = msgspec.to_builtins(plan.recipe)
    usual = msgspec.to_builtins(read_recipe(DEFAULT_RECIPE))
    memory = plan.memory_estimate()
    return {
        "recipe": recipe,
        "changed": [
            f"{section}.{name}"
            for section, fields in recipe.items()
            for name, value in fields.items()
            if usual[section][name] != value
        ],
        "base": plan.base.name,
        "dataset": plan.dataset.name,
        "dialogues": len(plan.train),
        "replies": plan.report.replies,
        "tokens_per_epoch": plan.report.tokens,
        "target_tokens_per_epoch": plan.report.target_tokens,
        "cut": _cut(plan),
        "steps": plan.total_steps,
        "steps_per_epoch": plan.steps_per_epoch,
        "dialogues_per_step": plan.recipe.training.dialogues_per_step,
        "trainable_parameters": plan.trainable_parameters,
        "memory": memory,
        "memory_total": sum(memory.values()),
        "disk": needed_bytes(plan),
        "pace": pace,
        "is_served": plan.recipe.lora.is_served,
    }
