"""``lccc-admin runs``: the records of past and present trainings."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from admin.context import AdminContext, pass_admin
from admin.options import json_option
from admin.records import view
from admin.stopping import INTERRUPTED

if TYPE_CHECKING:
    from training.runs import Run

SHOWN = 20
STOP_TIMEOUT_S = 600.0
QUANTITIES = (
    "loss",
    "validation-per-character",
    "learning-rate",
    "gradient-norm",
    "tokens-per-second",
)
BROKE_OFF = ("failed", "interrupted")

run_argument = click.argument("run_id", metavar="RUN")
runs_argument = click.argument("run_ids", metavar="RUN...", nargs=-1, required=True)


@click.group()
def runs() -> None:
    """Look at trainings, running and past; stop, check and delete them."""


@runs.command("list")
@json_option
@pass_admin
def list_runs(admin: AdminContext, as_json: bool) -> None:
    """List the runs, newest first."""
    from training.runs import RunStore

    found = [run.status() for run in RunStore(admin.home.runs).all()]
    if as_json:
        admin.output.json(found)
        return
    if not found:
        admin.output.say("No runs yet. `lccc-admin train --data N --name ADAPTER` starts one.")
        return
    view.show_list(admin.output, found)


@runs.command("show")
@run_argument
@click.option("--all", "show_all", is_flag=True, help="Show every line, not only the last 20.")
@click.option("--json", "as_json", is_flag=True, help="Print status and all events as JSON.")
@pass_admin
def show_run(admin: AdminContext, run_id: str, show_all: bool, as_json: bool) -> None:
    """Show one run: its status and what was measured."""
    run = _run(admin, run_id)
    status, events = run.status(), run.events()
    if as_json:
        admin.output.json({"status": status, "events": events})
        return
    view.show_status(admin.output, status)
    measured = [event for event in events if event.kind in ("train", "evaluation")]
    view.show_measured(admin.output, measured, most=None if show_all else SHOWN)
    view.show_samples(admin.output, events, most=SHOWN)
    for event in events:
        if event.kind == "recomputation":
            admin.output.say(f"step {event.step}: {event.message}")
        if event.kind == "warning":
            admin.output.warn(f"step {event.step}: {event.message}")
    admin.output.say(f"Log and checkpoints: {run.directory}")
    if status.state in ("stopped", *BROKE_OFF):
        has_one = any(run.checkpoints.glob("step-*"))
        how = "Continue it" if has_one else "Begin it again (it has no checkpoint)"
        admin.output.say(f"{how} with: lccc-admin train --resume {run.id}")


@runs.command("watch")
@run_argument
@click.option("--json", "as_json", is_flag=True, help="Print every event as a line of JSON.")
@pass_admin
def watch_run(admin: AdminContext, run_id: str, as_json: bool) -> None:
    """Follow a training to its end: loss, validation, speed, and how long it will take.

    In a pipe, every event is a line. Ctrl-C ends the watching, not the training. The exit code is
    1 where the training failed or was interrupted.
    """
    from admin.records.errors import RecordError
    from admin.records.watch import watch

    try:
        status = watch(_run(admin, run_id), admin.output, as_json=as_json)
    except KeyboardInterrupt:
        admin.output.say(f"No longer watching. `lccc-admin runs stop {run_id}` stops the training.")
        sys.exit(INTERRUPTED)
    if status.state in BROKE_OFF:
        why = f": {status.error}" if status.error else "."
        raise RecordError(f"The run {run_id} was {status.state} at step {status.step}{why}")


@runs.command("plot")
@runs_argument
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A file that ends in .svg, .html or .png.  [default: RUN.svg]",
)
@click.option(
    "--quantity", type=click.Choice(QUANTITIES), default="loss", help="What to plot over the steps."
)
@click.option(
    "--smoothing",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Weight of the past in a moving average.",
)
@click.option("--log", "is_log", is_flag=True, help="A logarithmic scale.")
@pass_admin
def plot_runs(
    admin: AdminContext,
    run_ids: tuple[str, ...],
    output: Path | None,
    quantity: str,
    smoothing: float,
    is_log: bool,
) -> None:
    """Write the loss curves of one or more runs as SVG, HTML or PNG.

    Validation is dashed. PNG needs matplotlib (`pip install matplotlib`).
    """
    from admin.records.chart import chart_of
    from admin.records.picture import write_chart

    found = [_run(admin, run_id) for run_id in dict.fromkeys(run_ids)]
    chart = chart_of(found, quantity, smoothing=smoothing, is_log=is_log)
    path = output or Path(f"{found[0].id}.svg")
    write_chart(chart, path)
    admin.output.data(str(path))


@runs.command("compare")
@runs_argument
@json_option
@pass_admin
def compare_runs(admin: AdminContext, run_ids: tuple[str, ...], as_json: bool) -> None:
    """Show in what runs were made differently, and what came of it."""
    from admin.records.comparison import compare

    found = compare([_run(admin, run_id) for run_id in dict.fromkeys(run_ids)])
    if as_json:
        admin.output.json(found)
        return
    view.show_comparison(admin.output, found)
    if not found.made and len(found.runs) > 1:
        admin.output.say("They were made with the same recipe, inputs, versions and hardware.")


@runs.command("stop")
@run_argument
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0),
    default=STOP_TIMEOUT_S,
    help="Seconds to wait for its end; 0 does not wait.",
)
@pass_admin
def stop_run(admin: AdminContext, run_id: str, timeout_s: float) -> None:
    """Have a training end after its present step, with a checkpoint, and wait for that.

    `train --resume RUN` goes on from there.
    """
    from admin.records.errors import RecordError

    run = _run(admin, run_id)
    status = run.status()
    if not status.is_active:
        admin.output.say(f"The run {run_id} is not running: it is {status.state}.")
        return
    run.ask_to_stop()
    ends_s = time.monotonic() + timeout_s
    while (status := run.status()).is_active and time.monotonic() < ends_s:
        time.sleep(0.1)
    if not status.is_active:
        admin.output.say(f"The run {run_id} is {status.state} at step {status.step}.")
    elif timeout_s:
        raise RecordError(
            f"The run {run_id} has not ended within {timeout_s:g} s. It still will, after its "
            f"present step; `kill {status.pid}` asks its process directly."
        )
    else:
        admin.output.say(f"The run {run_id} will end after its present step.")


@runs.command("verify")
@run_argument
@json_option
@pass_admin
def verify_run(admin: AdminContext, run_id: str, as_json: bool) -> None:
    """Hash a run's checkpoints and adapter again. Exits 1 if one is damaged."""
    from admin.records.errors import RecordError
    from training.runs.verification import verify

    found = verify(_run(admin, run_id))
    if as_json:
        admin.output.json(found)
    for name, problems in found.items():
        if not as_json:
            admin.output.data(f"{name}: {'; '.join(problems) or 'ok'}")
    if not found:
        admin.output.say(f"The run {run_id} has neither a checkpoint nor an adapter.")
    if damaged := [name for name, problems in found.items() if problems]:
        raise RecordError(
            f"Damaged: {', '.join(damaged)}. `train --resume` takes the newest checkpoint that is "
            "whole."
        )


@runs.command("rm")
@runs_argument
@click.option("--force", is_flag=True, help="Also runs that registered adapters come from.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_admin
def remove_runs(admin: AdminContext, run_ids: tuple[str, ...], force: bool, yes: bool) -> None:
    """Delete runs with their checkpoints; never one that is running.

    Registered adapters stay as they are: they are copies.
    """
    from training.runs import RunStore

    store = RunStore(admin.home.runs)
    doomed = [store.get(run_id) for run_id in dict.fromkeys(run_ids)]
    for run in doomed:
        _refuse_to_remove(admin, run, force=force)
    if not yes and sys.stdin.isatty():
        listed = ", ".join(run.id for run in doomed)
        click.confirm(f"Delete {listed} with all checkpoints?", abort=True, err=True)
    for run in doomed:
        store.remove(run)
        admin.output.data(run.id)


def _refuse_to_remove(admin: AdminContext, run: Run, *, force: bool) -> None:
    """Raise where the run is in use, or an adapter's only provenance."""
    from adapters.registry import Registry
    from admin.records.errors import RecordError
    from training.errors import RunBusy

    if run.is_held():
        raise RunBusy(run.id, None)
    entries = Registry(admin.home.registry).snapshot().entries.values()
    made = [one.name for one in entries if one.manifest.run and one.manifest.run.id == run.id]
    if made and not force:
        raise RecordError(
            f"The run {run.id} made the registered adapter {', '.join(made)}: with the run goes "
            "the record of how. --force deletes it all the same; the adapter stays."
        )


def _run(admin: AdminContext, run_id: str) -> Run:
    from training.runs import RunStore

    return RunStore(admin.home.runs).get(run_id)
