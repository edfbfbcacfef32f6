"""``lccc-admin sweep``: trainings that differ in a few recipe fields, and the best of them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from admin.context import AdminContext, pass_admin
from admin.options import report_to_option

if TYPE_CHECKING:
    from adapters.base import Base
    from admin.sweeps.conductor import Conductor
    from admin.sweeps.view import SweepPlan
    from training.data.dataset import PreparedDataset
    from training.sweeps.definition import Definition
    from training.sweeps.record import SweepRecord

COMPARED = 4  # runs in the command that is suggested at the end


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--name",
    "adapter",
    help="What the best adapter will be called.  [default: the sweep's name]",
)
@click.option("--no-register", is_flag=True, help="Leave the best adapter in its run's directory.")
@click.option("--retry-failed", is_flag=True, help="Also go on with trials that failed before.")
@report_to_option
@click.option("--dry-run", is_flag=True, help="Print the trials with steps and time, then stop.")
@click.option("--status", "only_status", is_flag=True, help="Print how far it is, then stop.")
@click.option(
    "--stop", "asks_to_stop", is_flag=True, help="Have it end with a checkpoint, where it runs."
)
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
@pass_admin
def sweep(  # noqa: PLR0913 - one parameter an option
    admin: AdminContext,
    *,
    file: Path,
    adapter: str | None,
    no_register: bool,
    retry_failed: bool,
    report_to: tuple[str, ...],
    dry_run: bool,
    only_status: bool,
    asks_to_stop: bool,
    as_json: bool,
) -> None:
    """Train once for each combination of recipe fields in FILE, and register the best adapter.

    FILE is TOML with a name, the data, the recipe, and a table of fields: each has a list of
    values, or, in a random search, a range. Trials run one after another, as trainings of their
    own. The same command goes on where it was stopped, and skips what is done; trials may be added
    to FILE in between.
    """
    from admin.sweeps.conductor import Conductor
    from training.runs import RunStore
    from training.sweeps.definition import read_sweep
    from training.sweeps.lock import conducting
    from training.sweeps.stopping import stop
    from training.sweeps.store import SweepStore
    from training.trackers import check_trackers

    if dry_run + only_status + asks_to_stop > 1:
        raise click.UsageError("--dry-run, --status and --stop do not go together.")
    definition = read_sweep(file)
    store = SweepStore(admin.home.sweeps)
    if asks_to_stop:
        stop(store, RunStore(admin.home.runs), store.get(definition.name))
        admin.output.say(f"Asked: '{definition.name}' ends after the present step of its trial.")
        return
    if only_status:
        _show_status(admin, store.get(definition.name), file, as_json=as_json)
        return
    check_trackers(report_to)
    prepared = _Prepared(admin, definition, adapter, registers=not no_register, is_dry=dry_run)
    plan = prepared.plan(retry_failed=retry_failed)
    if dry_run:
        _show_plan(admin, plan, as_json=as_json)
        return
    with conducting(store.make_directory(definition.name)) as lock:
        conductor = Conductor(
            home=admin.home,
            output=admin.output,
            record=prepared.record(),
            base=prepared.base_argument,
            lock=lock,
            report_to=report_to,
        )
        conductor.begin(retry_failed=retry_failed)
        store.write_definition(definition, prepared.base_argument)
        admin.output.say(plan.sentence())
        is_over = conductor.go_on()
        if is_over and prepared.registers and conductor.record.best():
            conductor.register_best(prepared.adapter, prepared.base)
    if is_over or as_json:
        _show(admin, conductor.record, as_json=as_json)
    if is_over:
        _tell_what_comes_next(admin, prepared, conductor)
    else:
        _tell_how_to_go_on(admin, conductor.record, file)


class _Prepared:
    """All that a sweep is about, looked up and checked before anything begins."""

    def __init__(
        self,
        admin: AdminContext,
        definition: Definition,
        adapter: str | None,
        *,
        registers: bool,
        is_dry: bool,
    ) -> None:
        from adapters.registry import Registry
        from admin.commands.base import base_argument, obtain_base, present_base
        from training.data.dataset import PreparedDataset
        from training.sweeps.trials import expand

        self.definition = definition
        self.adapter = adapter or definition.name
        self.registers = registers
        self._admin = admin
        self._trials = expand(definition)
        self.dataset: PreparedDataset = PreparedDataset.open(admin.home.datasets, definition.data)
        if registers:
            Registry(admin.home.registry).check_name(self.adapter, definition.base)
        obtain = present_base if is_dry else obtain_base
        self.base: Base = obtain(admin, definition.base)
        self.base_argument = base_argument(admin, self.base.name, str(self.base.path))
        self.record()  # refuse a file that has changed before anything is encoded

    def record(self) -> SweepRecord:
        """The sweep as it stands, with the trials that the file has now."""
        from training.sweeps.record import SweepRecord
        from training.sweeps.store import SweepStore

        found = SweepStore(self._admin.home.sweeps).find(self.definition.name)
        now = (self.definition, self._trials, self.dataset.manifest.sha256, self.base.ref)
        return found.continued(*now) if found else SweepRecord.of(*now)

    def plan(self, *, retry_failed: bool) -> SweepPlan:
        """What is to be run, planned trial by trial; nothing is planned where nothing is."""
        from admin.progress import encoding_progress
        from admin.sweeps.view import SweepPlan
        from training.runs import RunStore
        from training.sweeps.standing import standings
        from training.sweeps.store import trial_runs

        record, runs = self.record(), RunStore(self._admin.home.runs)
        found = standings(record, trial_runs(record, runs))
        ended = ("completed",) if retry_failed else ("completed", "failed")
        to_run = [one for one in found if one.state not in ended]
        if not to_run:
            return SweepPlan.of(record, found, {})
        from training.sweeps.planning import estimates

        with encoding_progress(self._admin.output) as on_progress:
            estimated = estimates(
                record.common,
                [one.values for one in to_run],
                base=self.base,
                dataset=self.dataset,
                runs=runs,
                registers=self.registers,
                on_progress=on_progress,
            )
        by_id = {one.id: estimate for one, estimate in zip(to_run, estimated, strict=True)}
        return SweepPlan.of(record, found, by_id)


def _tell_what_comes_next(admin: AdminContext, prepared: _Prepared, conductor: Conductor) -> None:
    """Which trial is the best, and what can be done with it.

    Raises:
        SweepFailed: none is.
    """
    from training.sweeps.standing import by_loss, standings

    say = admin.output.say
    base = shlex.quote(prepared.base_argument)
    best, run = conductor.best_run()
    assert best.outcome is not None
    scored = f"validation loss {best.outcome.validation_nll:.4f}"
    if prepared.registers:
        say(f"The best trial, {best.id} ({scored}), is registered as '{prepared.adapter}'. Try it:")
        say(f"  lccc-admin serve --base {base}")
        say(f"  lccc-admin chat --model {prepared.adapter}")
    else:
        where = shlex.quote(str(run.adapter))
        say(f"The best trial is {best.id} ({scored}). Register it with:")
        say(f"  lccc-admin adapters register {where} --name {prepared.adapter} --base {base}")
    ranked = by_loss(standings(conductor.record, {}))
    runs = [one.run for one in ranked if one.run and one.state == "completed"][:COMPARED]
    if len(runs) > 1:
        say(f"  lccc-admin runs compare {' '.join(runs)}")
    failed = sum(one.state == "failed" for one in ranked)
    if failed:
        file = shlex.quote(str(prepared.definition.source))
        admin.output.warn(f"{failed} of {len(ranked)} trials failed. Try them again with:")
        admin.output.warn(f"  lccc-admin sweep {file} --retry-failed")


def _tell_how_to_go_on(admin: AdminContext, record: SweepRecord, file: Path) -> None:
    done = sum(trial.outcome is not None for trial in record.trials)
    admin.output.say(f"Stopped: {done} of {len(record.trials)} trials are done. Go on with:")
    admin.output.say(f"  lccc-admin sweep {shlex.quote(str(file))}")


def _show_status(admin: AdminContext, record: SweepRecord, file: Path, *, as_json: bool) -> None:
    """The table as it stands, also of a sweep that is under way."""
    from training.sweeps.lock import is_conducted
    from training.sweeps.store import SweepStore

    is_running = is_conducted(SweepStore(admin.home.sweeps).directory(record.name))
    _show(admin, record, as_json=as_json, is_running=is_running)
    done = sum(trial.outcome is not None for trial in record.trials)
    admin.output.say(f"{done} of {len(record.trials)} trials are done.")
    if is_running:
        admin.output.say("It is running.")
    elif done < len(record.trials):
        admin.output.say(f"Go on with: lccc-admin sweep {shlex.quote(str(file))}")


def _show(
    admin: AdminContext, record: SweepRecord, *, as_json: bool, is_running: bool = False
) -> None:
    from admin.sweeps.view import print_report, report_of
    from training.runs import RunStore
    from training.sweeps.standing import standings
    from training.sweeps.store import trial_runs

    found = standings(record, trial_runs(record, RunStore(admin.home.runs)))
    report = report_of(record, found, is_running=is_running)
    if as_json:
        admin.output.json(report)
        return
    print_report(admin.output, report)


def _show_plan(admin: AdminContext, plan: SweepPlan, *, as_json: bool) -> None:
    from admin.sweeps.view import print_plan

    if as_json:
        admin.output.json(plan)
        return
    print_plan(admin.output, plan)
    admin.output.say(plan.sentence())
