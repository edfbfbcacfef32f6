"""``lccc-admin train``: fine-tune an adapter and register it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from adapters.errors import AdapterInvalid
from admin.context import AdminContext, pass_admin
from admin.launch import Machines, joined, launch, stop_when_asked
from admin.options import base_option, report_to_option, set_option
from admin.plan_view import print_plan
from admin.stopping import stop_on_signal

if TYPE_CHECKING:
    from adapters.base import Base
    from training.data.dataset import PreparedDataset
    from training.execution.group import Group
    from training.planning.plan import Plan
    from training.recipe import Recipe
    from training.runs import Run
    from training.train import Outcome


@click.command()
@click.option("--data", "dataset", help="The prepared dataset to train on.")
@click.option("--name", "adapter", help="What the adapter will be called (its `model` name).")
@base_option
@click.option("--recipe", help="A bundled recipe's name, or a TOML file.  [default: the LCCC one]")
@set_option()
@report_to_option
@click.option("--resume", metavar="RUN", help="Continue a stopped or broken run.")
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=1,
    help="Train in so many processes on this machine, each on a GPU of its own.",
)
@click.option("--machines", type=click.IntRange(1), default=1, help="Machines that train together.")
@click.option(
    "--machine-rank", type=click.IntRange(0), default=0, help="Which of them this is, from 0."
)
@click.option("--main-address", metavar="HOST:PORT", help="Where machine 0 listens for the others.")
@click.option(
    "--group",
    type=click.Path(path_type=Path),
    hidden=True,
    help="Where a process of several is asked to stop, and says why it broke off.",
)
@click.option("--sweep", hidden=True, help="The sweep that this is a trial of.")
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
    processes: int,
    machines: int,
    machine_rank: int,
    main_address: str | None,
    group: Path | None,
    sweep: str | None,
    no_register: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Fine-tune an adapter with QLoRA and register it.

    The seed's recipe is the default; `--set lora.r=8` and the like change single fields.
    Ctrl-C stops with a checkpoint, `--resume RUN` continues from the newest one.
    With several processes each takes a part of every step; on several machines, run the same
    command on each, with the same data and base there, and only `--machine-rank` differing.
    """
    from training.trackers import check_trackers

    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run; a training is read with `runs watch`.")
    check_trackers(report_to)
    if resume:
        _refuse_with_resume()
    elif not dataset or not adapter:
        missing = "--data" if not dataset else "--name"
        raise click.UsageError(f"Missing option '{missing}' (or --resume RUN).")
    request = _Request(
        dataset, adapter, base, recipe, overrides, resume, processes * machines, dry_run
    )
    if processes * machines > 1 and group is None and not dry_run:
        _launch(admin, request, processes, Machines.of(machines, machine_rank, main_address))
        return
    with joined(group) as together:
        run, plan, adapter = _planned(admin, request)
        if dry_run:
            print_plan(admin, plan, as_json=as_json)
        elif together.is_first:
            outcome = run_training(
                admin,
                plan,
                adapter,
                register=not no_register,
                resume=run,
                report_to=report_to,
                group=together,
                directory=group,
                sweep=sweep,
            )
            if sweep is None:  # else the sweep's own process tells
                _tell(admin, outcome, adapter, plan.base)
        else:
            from training.train import assist

            assist(plan, together)


@dataclass(frozen=True)
class _Request:
    """What is to be trained; of a run that is resumed, only ``resume`` counts."""

    dataset: str | None
    adapter: str | None
    base: str
    recipe: str | None
    overrides: tuple[str, ...]
    resume: str | None
    processes: int
    is_dry: bool


class _Parts(NamedTuple):
    """What a plan is made of, and the run that it goes on with."""

    run: Run | None
    base: Base
    recipe: Recipe
    dataset: PreparedDataset
    adapter: str


def _parts(admin: AdminContext, asked: _Request) -> _Parts:
    """Look everything up, and obtain the base."""
    from adapters.registry import Registry
    from admin.commands.base import base_argument
    from training.data.dataset import PreparedDataset
    from training.recipe import DEFAULT_RECIPE, decode_recipe, read_recipe
    from training.runs import RunStore

    if asked.resume:
        run = RunStore(admin.home.runs).get(asked.resume)
        status = run.status()
        recipe = decode_recipe(run.recipe_path.read_text("utf-8"), str(run.recipe_path))
        prepared = PreparedDataset.open(admin.home.datasets, status.dataset)
        argument = base_argument(admin, status.base, status.base_path)
        base = _base(admin, argument, asked.is_dry)
        return _Parts(run, base, recipe, prepared, status.adapter)
    assert asked.dataset is not None
    assert asked.adapter is not None
    recipe = read_recipe(asked.recipe or DEFAULT_RECIPE, asked.overrides)
    prepared = PreparedDataset.open(admin.home.datasets, asked.dataset)
    Registry(admin.home.registry).check_name(asked.adapter, asked.base)
    base = _base(admin, asked.base, asked.is_dry)
    return _Parts(None, base, recipe, prepared, asked.adapter)


def _planned(admin: AdminContext, asked: _Request) -> tuple[Run | None, Plan, str]:
    from admin.progress import encoding_progress
    from training.train import plan_training

    parts = _parts(admin, asked)
    with encoding_progress(admin.output) as on_progress:
        plan = plan_training(parts.base, parts.recipe, parts.dataset, on_progress, asked.processes)
    return parts.run, plan, parts.adapter


def _launch(admin: AdminContext, asked: _Request, processes: int, machines: Machines) -> None:
    """Look everything up once, so that what is wrong is said once; then start the processes."""
    _parts(admin, asked)
    context = click.get_current_context()
    arguments = ["--home", str(admin.home.root), "train"]
    for parameter in context.command.params:
        name = parameter.name or ""
        is_own = name not in ("dataset", "adapter", "base", "recipe", "overrides")
        if asked.resume and not is_own:  # a run keeps its own
            continue
        arguments += _told(parameter, context.params.get(name))
    launch(arguments, processes, machines, admin.output.say)


def _told(parameter: click.Parameter, value: object) -> list[str]:
    """A parameter as it stands on a command line."""
    if value is None or value is False:
        return []
    values = value if isinstance(value, tuple) else (value,)
    flag = parameter.opts[0]
    return [part for one in values for part in ([flag] if one is True else [flag, str(one)])]


def _refuse_with_resume() -> None:
    """A run keeps its data, name, base and recipe; another value would go unheard."""
    context = click.get_current_context()
    own = {"dataset": "data", "adapter": "name", "base": "base", "recipe": "recipe"}
    for parameter, option in {**own, "overrides": "set"}.items():
        if context.get_parameter_source(parameter) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{option} cannot go with --resume: a run keeps its own.")


def _base(admin: AdminContext, name: str, dry_run: bool) -> Base:
    """A dry run takes what is there; a training gets what it needs."""
    from admin.commands.base import obtain_base, present_base

    return present_base(admin, name) if dry_run else obtain_base(admin, name)


def run_training(  # noqa: PLR0913 - what a training may be told, by name
    admin: AdminContext,
    plan: Plan,
    adapter: str,
    *,
    register: bool = True,
    resume: Run | None = None,
    report_to: Sequence[str] = (),
    group: Group | None = None,
    directory: Path | None = None,
    sweep: str | None = None,
) -> Outcome:
    """Train with a progress display; the first Ctrl-C or SIGTERM asks for a clean stop.

    As the first of ``group`` it is asked in ``directory`` instead. A trial of ``sweep`` is not
    registered.
    """
    from adapters.registry import Registry
    from admin.progress import TrainingProgress
    from training.execution.group import ALONE
    from training.runs import RunStore
    from training.train import train as run_train

    try:
        with (
            TrainingProgress(admin.output, adapter) as progress,
            stop_on_signal(progress.note)
            if directory is None
            else nullcontext(stop_when_asked(directory, progress.note)) as should_stop,
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
                group=group or ALONE,
                sweep=sweep,
            )
    except AdapterInvalid as refusal:
        admin.output.say("The training is finished, its adapter was not registered. When what is")
        admin.output.say("said below has been put right, register it with:")
        admin.output.say(_register_command(admin, refusal.source, adapter, plan.base))
        raise


def _tell(admin: AdminContext, outcome: Outcome, adapter: str, base: Base) -> None:
    status, say = outcome.status, admin.output.say
    if outcome.why_early:
        say(f"Ended early, at step {status.step} of {status.total_steps}: {outcome.why_early}.")
    if status.state == "stopped":
        tell_how_to_resume(admin, outcome)
    elif status.sweep:
        say(f"Finished, not registered: it is a trial of the sweep '{status.sweep}', which")
        say("registers the best of all when `lccc-admin sweep FILE` is run again.")
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
