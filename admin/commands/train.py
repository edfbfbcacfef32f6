"""``lccc-admin train``: fine-tune an adapter and register it."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from adapters.base import DEFAULT_BASE
from adapters.errors import AdapterInvalid
from admin.context import AdminContext, pass_admin
from admin.plan_view import print_plan

if TYPE_CHECKING:
    from adapters.base import Base
    from training.plan import Plan
    from training.runs import Run
    from training.train import Outcome

# Fewer become tokens in the blink of an eye.
DIALOGUES_WORTH_A_BAR = 10_000
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


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
@click.option(
    "--report-to",
    multiple=True,
    type=click.Choice(TRACKERS),
    help="Also tell a tracker of experiments what is measured; several can be named.",
)
@click.option("--resume", metavar="RUN", help="Continue a stopped or broken run.")
@click.option("--no-register", is_flag=True, help="Leave the adapter in the run's directory.")
@click.option("--dry-run", is_flag=True, help="Print the resolved recipe and the plan, then stop.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: print the plan as JSON.")
@pass_admin
def train(  # noqa: PLR0913, PLR0917 # one a command-line option
    admin: AdminContext,
    dataset: str | None,
    adapter: str | None,
    base: str,
    recipe: str | None,
    overrides: tuple[str, ...],
    report_to: tuple[str, ...],
    resume: str | None,
    no_register: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fine-tune an adapter with QLoRA and register it.

    The seed's recipe is the default; `--set lora.r=8` and the like change single fields.
    Ctrl-C stops with a checkpoint, `--resume RUN` continues from the newest one.
    """
    from training.trackers import check_trackers

    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run; a training is read with `runs watch`.")
    check_trackers(report_to)
    if resume:
        _refuse_with_resume()
        run, plan, adapter = _resumed(admin, resume, dry_run=dry_run)
    else:
        if not dataset or not adapter:
            missing = "--data" if not dataset else "--name"
            raise click.UsageError(f"Missing option '{missing}' (or --resume RUN).")
        run = None
        plan = _new_plan(admin, dataset, adapter, base, recipe, overrides, dry_run=dry_run)
    if dry_run:
        print_plan(admin, plan, as_json=as_json)
        return
    outcome = run_training(
        admin, plan, adapter, register=not no_register, resume=run, report_to=report_to
    )
    _tell(admin, outcome, adapter, plan.base)


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
    *,
    dry_run: bool,
) -> Plan:
    from adapters.registry import Registry
    from training.data.dataset import PreparedDataset
    from training.recipe import DEFAULT_RECIPE, read_recipe
    from training.train import plan_training

    resolved = read_recipe(recipe or DEFAULT_RECIPE, overrides)
    prepared = PreparedDataset.open(admin.home.datasets, dataset)
    Registry(admin.home.registry).check_name(adapter, base)
    found = _base(admin, base, dry_run)
    with _encoding_progress(admin) as on_progress:
        return plan_training(found, resolved, prepared, on_progress)


def _resumed(admin: AdminContext, run_id: str, *, dry_run: bool) -> tuple[Run, Plan, str]:
    from admin.commands.base import base_argument
    from training.data.dataset import PreparedDataset
    from training.recipe import decode_recipe
    from training.runs import RunStore
    from training.train import plan_training

    run = RunStore(admin.home.runs).get(run_id)
    status = run.status()
    recipe = decode_recipe(run.recipe_path.read_text("utf-8"), str(run.recipe_path))
    prepared = PreparedDataset.open(admin.home.datasets, status.dataset)
    base = _base(admin, base_argument(admin, status.base, status.base_path), dry_run)
    with _encoding_progress(admin) as on_progress:
        return run, plan_training(base, recipe, prepared, on_progress), status.adapter


def _base(admin: AdminContext, name: str, dry_run: bool) -> Base:
    """A dry run takes what is there; a training gets what it needs."""
    from admin.commands.base import obtain_base, present_base

    return present_base(admin, name) if dry_run else obtain_base(admin, name)


@contextmanager
def _encoding_progress(admin: AdminContext) -> Iterator[Callable[[int, int], None]]:
    """A bar for dialogues that become tokens, once there are many of them to be made."""
    from admin.progress import progress_bar

    with ExitStack() as stack:
        advance: Callable[[int, int, str], None] | None = None

        def on_progress(done: int, total: int) -> None:
            nonlocal advance
            if total >= DIALOGUES_WORTH_A_BAR:
                advance = advance or stack.enter_context(progress_bar(admin.output, "encoding"))
                advance(done, total, "dialogues")

        yield on_progress


def run_training(
    admin: AdminContext,
    plan: Plan,
    adapter: str,
    *,
    register: bool = True,
    resume: Run | None = None,
    report_to: Sequence[str] = (),
) -> Outcome:
    """Train with a progress display; the first Ctrl-C or SIGTERM asks for a clean stop."""
    from adapters.registry import Registry
    from admin.progress import TrainingProgress
    from training.runs import RunStore
    from training.train import train as run_train

    try:
        with (
            TrainingProgress(admin.output, adapter) as progress,
            stop_on_signal(progress.note) as should_stop,
        ):
            return run_train(
                plan,
                adapter,
                runs=RunStore(admin.home.runs),
                registry=Registry(admin.home.registry) if register else None,
                progress=progress,
                should_stop=should_stop,
                resume=resume,
                report_to=report_to,
            )
    except AdapterInvalid as refusal:
        admin.output.say("The training is finished, its adapter was not registered. When what is")
        admin.output.say("said below has been put right, register it with:")
        admin.output.say(_register_command(admin, refusal.source, adapter, plan.base))
        raise


@contextmanager
def stop_on_signal(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a request to stop; a second one interrupts at once.

    A terminal that is closed (SIGHUP) asks too, unless the training was told to outlive it (nohup).
    Yields the question whether to stop, which says so when it is first answered with yes: the
    handler itself may run in the middle of another write to the terminal, so it writes nothing.
    """
    asked = said = False

    def ask(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def should_stop() -> bool:
        nonlocal said
        if asked and not said:
            said = True
            with suppress(OSError):  # the terminal may be what is gone
                say("Stopping after this step, with a checkpoint (again: at once) …")
        return asked

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield should_stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _tell(admin: AdminContext, outcome: Outcome, adapter: str, base: Base) -> None:
    status, say = outcome.status, admin.output.say
    if outcome.why_early:
        say(f"Ended early, at step {status.step} of {status.total_steps}: {outcome.why_early}.")
    if status.state == "stopped":
        tell_how_to_resume(admin, outcome)
    elif outcome.entry is not None:
        nll = status.validation_nll
        scored = f" (best validation loss {nll:.4f} at step {status.best_step})" if nll else ""
        say(f"Registered '{adapter}'{scored}. A running server finds it within 2 s. Try it:")
        say(f"  lccc-admin serve --base {_base_option(admin, base)}")
        say(f"  lccc-admin chat --model {adapter}")
    elif not outcome.is_served:
        say(f"Finished. The adapter lies in {outcome.run.adapter}, for PEFT; it cannot be served.")
    else:
        say("Finished, not registered. Register it with:")
        say(_register_command(admin, outcome.run.adapter, adapter, base))


def tell_how_to_resume(admin: AdminContext, outcome: Outcome) -> None:
    """How far a stopped training came, and the command that continues it."""
    status = outcome.status
    admin.output.say(f"Stopped at step {status.step} of {status.total_steps}. Continue with:")
    admin.output.say(f"  lccc-admin train --resume {outcome.run.id}")


def _register_command(admin: AdminContext, directory: Path, adapter: str, base: Base) -> str:
    where, called = shlex.quote(str(directory)), _base_option(admin, base)
    return f"  lccc-admin adapters register {where} --name {adapter} --base {called}"


def _base_option(admin: AdminContext, base: Base) -> str:
    from admin.commands.base import base_argument

    return shlex.quote(base_argument(admin, base.name, str(base.path)))
