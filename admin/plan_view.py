"""How a training's plan is shown: as tables for a person, as JSON for a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from admin.context import AdminContext

if TYPE_CHECKING:
    from training.planning.duration import Duration
    from training.planning.plan import Plan
    from training.planning.recomputation import Recomputation


def print_plan(admin: AdminContext, plan: Plan, *, as_json: bool) -> None:
    """The resolved recipe, steps, memory, disk and time; nothing is trained.

    Raises:
        RecipeError: settings that do not go together.
    """
    from training.nn.model import training_device
    from training.planning.duration import expected_duration
    from training.planning.feasibility import NOT_SERVED, check_feasible
    from training.planning.recomputation import Recomputation
    from training.runs import RunStore

    check_feasible(plan)
    again = Recomputation.decided(plan, training_device(), neighbours=plan.processes)
    duration = expected_duration(plan, RunStore(admin.home.runs), again.layers)
    if as_json:
        admin.output.json(_as_data(plan, again, duration))
        return
    admin.output.data(plan.recipe.toml())
    admin.output.table(("plan", ""), _rows(plan, again, duration))
    if sentence := plan.pace.sentence(plan.recipe, plan.total_steps):
        admin.output.say(sentence)
    admin.output.say(again.sentence)
    if not plan.recipe.lora.is_served:
        admin.output.warn(NOT_SERVED)


def _rows(plan: Plan, again: Recomputation, duration: Duration | None) -> list[tuple[str, str]]:
    from training.planning.space import needed_bytes

    report, memory = plan.report, again.memory
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
        ("memory (estimate)", _mib(again.needed)),
        *((f"  {name}", _mib(size)) for name, size in memory.items()),
        ("gradient checkpointing", _checkpointing(again)),
        ("  memory if all, if none", f"{_mib(again.needed_with)}, {_mib(again.needed_without)}"),
        ("  memory that may be used", _mib(again.usable)),
        ("disk (at most)", _mib(needed_bytes(plan))),
        ("time of the steps", _time(duration)),
    ]


def _steps(plan: Plan) -> str:
    per_step, own = plan.pace.dialogues_per_step, plan.recipe.training.dialogues_per_step
    instead = f" instead of {own}" if plan.recipe.training.mode == "throughput" else ""
    return f"{plan.total_steps} of {per_step} dialogues{instead} ({plan.steps_per_epoch} an epoch)"


def _checkpointing(again: Recomputation) -> str:
    setting = again.setting if isinstance(again.setting, str) else str(again.setting).lower()
    return (
        f"{setting}: {again.layers} of {again.of} layers computed again, {again.times:.2f} times "
        "the arithmetic"
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


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


def _as_data(plan: Plan, again: Recomputation, duration: Duration | None) -> dict[str, Any]:
    """The same as values; sizes are in bytes."""
    import msgspec

    from training.planning.space import needed_bytes
    from training.recipe import DEFAULT_RECIPE, read_recipe

    recipe = msgspec.to_builtins(plan.recipe)
    usual = msgspec.to_builtins(read_recipe(DEFAULT_RECIPE))
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
        "memory": again.memory,
        "memory_total": again.needed,
        "recomputation": {
            "setting": again.setting,
            "layers": again.layers,
            "of": again.of,
            "times": again.times,
            "needed_with": again.needed_with,
            "needed_without": again.needed_without,
            "usable": again.usable,
        },
        "disk": needed_bytes(plan),
        "pace": duration,
        "is_served": plan.recipe.lora.is_served,
    }
