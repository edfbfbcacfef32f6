"""``lccc-admin train``: fine-tune an adapter and register it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

import click

from adapters.base import DEFAULT_BASE
from admin.context import AdminContext, pass_admin

if TYPE_CHECKING:
    from training.plan import Plan
    from training.runs import Run
    from training.train import Outcome


@click.command()
@click.option("--data", "dataset", help="The prepared dataset to train on.")
@click.option("--name", "adapter", help="What the adapter will be called (its `model` name).")
@click.option(
    "--base",
    default=DEFAULT_BASE,
    envvar="LCCC_BASE",
    show_envvar=True,
    help="`pocket`, a hub id, or a checkpoint directory.",
)
@click.option("--recipe", help="A bundled recipe's name, or a TOML file.  [default: the LCCC one]")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one recipe field."
)
@click.option("--resume", metavar="RUN", help="Continue a stopped or broken run.")
@click.option("--no-register", is_flag=True, help="Leave the adapter in the run's directory.")
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and the plan, then stop.")
@pass_admin
def train(  # noqa: PLR0913, PLR0917 # one a command-line option
    admin: AdminContext,
    dataset: str | None,
    adapter: str | None,
    base: str,
    recipe: str | None,
    overrides: tuple[str, ...],
    resume: str | None,
    no_register: bool,
    dry_run: bool,
) -> None:
    """Fine-tune an adapter with QLoRA and register it.

    The seed's recipe is the default; `--set lora.r=8` and the like change single fields.
    Ctrl-C stops with a checkpoint, `--resume RUN` continues from the newest one.
    """
    if resume:
        _refuse_with_resume()
        run, plan, adapter = _resumed(admin, resume)
    else:
        if not dataset or not adapter:
            missing = "--data" if not dataset else "--name"
            raise click.UsageError(f"Missing option '{missing}' (or --resume RUN).")
        run, plan = None, _new_plan(admin, dataset, adapter, base, recipe, overrides)
    if dry_run:
        _print_plan(admin, plan)
        return
    outcome = run_training(admin, plan, adapter, register=not no_register, resume=run)
    _tell(admin, outcome, adapter)


def _refuse_with_resume() -> None:
    """A run keeps its data, name, base and recipe; another value would go unheard."""
    context = click.get_current_context()
    own = {"dataset": "data", "adapter": "name", "base": "base", "recipe": "recipe"}
    for parameter, option in {**own, "overrides": "set"}.items():
        if context.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option} cannot go with --resume: a run keeps its own.")


def _new_plan(
    admin: AdminContext,
    dataset: str,
    adapter: str,
    base: str,
    recipe: str | None,
    overrides: tuple[str, ...],
) -> Plan:
    from adapters.registry import check_name
    from admin.commands.base import obtain_base
    from training.data.dataset import PreparedDataset
    from training.recipe import DEFAULT_RECIPE, read_recipe
    from training.train import plan_training

    resolved = read_recipe(recipe or DEFAULT_RECIPE, overrides)
    prepared = PreparedDataset.open(admin.home.datasets, dataset)
    check_name(adapter, base)
    return plan_training(obtain_base(admin, base), resolved, prepared)


def _resumed(admin: AdminContext, run_id: str) -> tuple[Run, Plan, str]:
    from admin.commands.base import obtain_base
    from training.data.dataset import PreparedDataset
    from training.recipe import decode_recipe
    from training.runs import RunStore
    from training.train import plan_training

    run = RunStore(admin.home.runs).get(run_id)
    status = run.status()
    recipe = decode_recipe(run.recipe_path.read_text("utf-8"), str(run.recipe_path))
    prepared = PreparedDataset.open(admin.home.datasets, status.dataset)
    return run, plan_training(obtain_base(admin, status.base), recipe, prepared), status.adapter


def run_training(
    admin: AdminContext,
    plan: Plan,
    adapter: str,
    *,
    register: bool = True,
    resume: Run | None = None,
) -> Outcome:
    """Train with a progress display; the first Ctrl-C or SIGTERM asks for a clean stop."""
    from adapters.registry import Registry
    from admin.progress import TrainingProgress
    from training.runs import RunStore
    from training.train import train as run_train

    with stop_on_signal(admin) as should_stop, TrainingProgress(admin.output, adapter) as progress:
        return run_train(
            plan,
            adapter,
            runs=RunStore(admin.home.runs),
            registry=Registry(admin.home.registry) if register else None,
            progress=progress,
            should_stop=should_stop,
            resume=resume,
        )


@contextmanager
def stop_on_signal(admin: AdminContext) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request to stop; a second one interrupts at once."""
    asked = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        admin.output.say("Stopping after this step, with a checkpoint (again: at once) …")

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _print_plan(admin: AdminContext, plan: Plan) -> None:
    out, report = admin.output, plan.report
    out.data(plan.recipe.toml())
    per_step = plan.recipe.training.dialogues_per_step
    memory = plan.memory_estimate()
    rows = [
        ("base", plan.base.name),
        ("dataset", plan.dataset.name),
        ("dialogues", f"{len(plan.train)} ({report.replies} replies)"),
        ("tokens an epoch", f"{report.tokens} ({report.target_tokens} with loss)"),
        ("cut to max_length", sum(n for cut, n in report.cut.items() if cut != "nothing")),
        ("steps", f"{plan.total_steps} of {per_step} dialogues ({plan.steps_per_epoch} an epoch)"),
        ("trainable parameters", f"{plan.trainable_parameters:,}"),
        ("memory (estimate)", f"{sum(memory.values()) / 2**20:,.0f} MiB"),
        *((f"  {name}", f"{size / 2**20:,.0f} MiB") for name, size in memory.items()),
    ]
    out.table(("plan", ""), rows)


def _tell(admin: AdminContext, outcome: Outcome, adapter: str) -> None:
    status, say = outcome.status, admin.output.say
    if status.state == "stopped":
        say(f"Stopped at step {status.step} of {status.total_steps}. Continue with:")
        say(f"  lccc-admin train --resume {outcome.run.id}")
    elif outcome.entry is not None:
        nll = status.validation_nll
        scored = f" (best validation loss {nll:.4f} at step {status.best_step})" if nll else ""
        say(f"Registered '{adapter}'{scored}. A running server finds it within 2 s. Try it:")
        say(f"  lccc-admin serve --base {status.base}")
        say(f"  lccc-admin chat --model {adapter}")
    else:
        say("Finished, not registered. Register it with:")
        say(
            f"  lccc-admin adapters register {outcome.run.adapter} "
            f"--name {adapter} --base {status.base}"
        )
