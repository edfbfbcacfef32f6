"""``lccc-admin runs``: the records of past and present trainings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from admin.context import AdminContext, pass_admin

if TYPE_CHECKING:
    from training.runs import Event, RunStatus

SHOWN = 20


@click.group()
def runs() -> None:
    """Look at trainings, running and past."""


@runs.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
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
    rows = [
        (
            status.id,
            status.state,
            f"{status.step}/{status.total_steps}",
            _number(status.validation_nll, 4),
            status.base,
            status.dataset,
        )
        for status in found
    ]
    columns = ("run", "state", "step", "validation loss", "base", "dataset")
    admin.output.table(columns, rows, whole=("run",))


@runs.command("show")
@click.argument("run_id", metavar="RUN")
@click.option("--all", "show_all", is_flag=True, help="Show every line, not only the last 20.")
@click.option("--json", "as_json", is_flag=True, help="Print status and all events as JSON.")
@pass_admin
def show_run(admin: AdminContext, run_id: str, show_all: bool, as_json: bool) -> None:
    """Show one run: its status and what was measured."""
    from training.runs import RunStore

    run = RunStore(admin.home.runs).get(run_id)
    status, events = run.status(), run.events()
    if as_json:
        admin.output.json({"status": status, "events": events})
        return
    admin.output.table(("run", ""), _facts(status), whole=("run",))
    measured = [event for event in events if event.kind in ("train", "evaluation")]
    _print_measured(admin, measured if show_all else measured[-SHOWN:], len(measured))
    admin.output.say(f"Log and checkpoints: {run.directory}")
    if status.state in ("stopped", "failed", "interrupted"):
        has_one = any(run.checkpoints.glob("step-*"))
        how = "Continue it" if has_one else "Begin it again (it has no checkpoint)"
        admin.output.say(f"{how} with: lccc-admin train --resume {run.id}")


def _facts(status: RunStatus) -> list[tuple[str, object]]:
    """What a person wants of a status; the process matters only while it runs."""
    import msgspec

    fields = msgspec.to_builtins(status) | {
        "started": _local(status.started),
        "updated": _local(status.updated),
        "pid": status.pid if status.is_active else None,
    }
    return [(name, value) for name, value in fields.items() if value is not None]


def _print_measured(admin: AdminContext, events: Sequence[Event], measured: int) -> None:
    if not events:
        admin.output.say("Nothing has been measured yet.")
        return
    rows = [
        (
            event.step,
            _number(event.loss, 4),
            _number(event.validation_nll, 4),
            _number(event.gradient_norm, 3),
            _number(event.tokens_per_s, 0),
        )
        for event in events
    ]
    admin.output.data("")
    admin.output.table(("step", "loss", "validation loss", "gradient norm", "tokens/s"), rows)
    if earlier := measured - len(events):
        admin.output.say(f"{earlier} earlier ones are left out; --all shows them.")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _local(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))
