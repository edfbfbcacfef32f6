"""How a training's plan is shown: as tables for a person, as JSON for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from admin.context import AdminContext

if TYPE_CHECKING:
    from training.planning.duration import Duration
    from training.planning.plan import Plan


def print_plan(admin: AdminContext, plan: Plan, *, as_json: bool) -> None:
    """The resolved recipe, steps, memory, disk and time; nothing is trained.

    Raises:
        RecipeError: settings that do not go together.
    """
    from training.nn.model import training_device
    from training.planning.duration import expected_duration
    from training.planning.feasibility import NOT_SERVED, check_feasible
    from training.runs import RunStore
    from training.train import remarks_on

    check_feasible(plan)
    duration = expected_duration(plan, RunStore(admin.home.runs))
    if as_json:
        admin.output.json(_as_data(plan, duration))
        return
    admin.output.data(plan.recipe.toml())
    admin.output.table(("plan", ""), _rows(plan, duration))
    for sentence in remarks_on(plan, training_device()):
        admin.output.say(sentence)
    if not plan.recipe.lora.is_served:
        admin.output.warn(NOT_SERVED)


def _rows(plan: Plan, duration: Duration | None) -> list[tuple[str, str]]:
    from training.planning.space import needed_bytes

    report, memory = plan.report, plan.memory_estimate()
    return [
        ("base", plan.base.name),
        ("dataset", plan.dataset.name),
        ("dialogues", f"{len(plan.train)} ({report.replies} replies)"),
        ("tokens an epoch", f"{report.tokens} ({report.target_tokens} with loss)"),
        ("cut to max_length", str(_cut(plan))),
        ("steps", _steps(plan)),
        ("tokens in one forward", f"{plan.tokens_per_forward} at most"),
        ("learning rate", f"{plan.pace.recipe.training.learning_rate:.3g}"),
        ("trainable parameters", f"{plan.trainable_parameters:,}"),
        ("memory (estimate)", f"{sum(memory.values()) / 2**20:,.0f} MiB"),
        *((f"  {name}", f"{size / 2**20:,.0f} MiB") for name, size in memory.items()),
        ("gradient checkpointing", _checkpointing(plan)),
        ("disk (at most)", f"{needed_bytes(plan) / 2**20:,.0f} MiB"),
        ("time of the steps", _time(duration)),
    ]


def _steps(plan: Plan) -> str:
    per_step, own = plan.pace.dialogues_per_step, plan.recipe.training.dialogues_per_step
    instead = f" instead of {own}" if plan.recipe.training.mode == "throughput" else ""
    return f"{plan.total_steps} of {per_step} dialogues{instead} ({plan.steps_per_epoch} an epoch)"


def _checkpointing(plan: Plan) -> str:
    from training.planning.recomputation import Recomputation

    again = Recomputation.of(plan)
    state = "on" if plan.recipe.training.gradient_checkpointing else "off"
    return (
        f"{state}; with it {again.times:.2f} times the arithmetic, and for the largest forward "
        f"{again.memory_with / 2**20:,.0f} instead of {again.memory_without / 2**20:,.0f} MiB"
    )


def _time(duration: Duration | None) -> str:
    if duration is None:
        return "unknown until a run on this base has been timed"
    whole_s = round(duration.seconds)
    minutes, seconds = divmod(whole_s, 60)
    hours, minutes = divmod(minutes, 60)
    speed = f"{duration.tokens_per_s:,.0f} tokens/s, as {duration.run}"
    return f"{hours}:{minutes:02}:{seconds:02} at {speed}"


def _cut(plan: Plan) -> int:
    return sum(count for what, count in plan.report.cut.items() if what != "nothing")


def _as_data(plan: Plan, duration: Duration | None) -> dict[str, Any]:
    """The same as values; sizes are in bytes."""
    import msgspec

    from training.planning.space import needed_bytes
    from training.recipe import DEFAULT_RECIPE, read_recipe

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
        "dialogues_per_step": plan.pace.dialogues_per_step,
        "trainable_parameters": plan.trainable_parameters,
        "memory": memory,
        "memory_total": sum(memory.values()),
        "disk": needed_bytes(plan),
        "pace": duration,
        "is_served": plan.recipe.lora.is_served,
    }
