"""``lccc-admin runs``: the records of past and present trainings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from admin.context import AdminContext, pass_admin

if TYPE_CHECKING:
    from training.runs import Metric, RunStatus

SHOWN_METRICS = 20


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
@click.option("--all", "show_all", is_flag=True, help="Show every metric, not only the last 20.")
@click.option("--json", "as_json", is_flag=True, help="Print status and all metrics as JSON.")
@pass_admin
def show_run(admin: AdminContext, run_id: str, show_all: bool, as_json: bool) -> None:
    """Show one run: its status and what was measured."""
    from training.runs import RunStore

    run = RunStore(admin.home.runs).get(run_id)
    status, metrics = run.status(), list(run.metrics())
    if as_json:
        admin.output.json({"status": status, "metrics": metrics})
        return
    admin.output.table(("run", ""), _facts(status), whole=("run",))
    measured = [metric for metric in metrics if metric.kind != "checkpoint"]
    _print_metrics(admin, measured if show_all else measured[-SHOWN_METRICS:], len(measured))
    admin.output.say(f"Log and checkpoints: {run.directory}")
    if status.state in ("stopped", "failed", "interrupted"):
        admin.output.say(
            f"Continue it with: lccc-admin train --resume {run.id}"
            if any(run.checkpoints.glob("step-*"))
            else "It has no checkpoint to continue from."
        )


def _facts(status: RunStatus) -> list[tuple[str, object]]:
    """What a person wants of a status; the process matters only while it runs."""
    import msgspec

    fields = msgspec.to_builtins(status) | {
        "started": _local(status.started),
        "updated": _local(status.updated),
        "process_started": None,
        "pid": status.pid if status.is_active else None,
    }
    return [(name, value) for name, value in fields.items() if value is not None]


def _print_metrics(admin: AdminContext, metrics: Sequence[Metric], measured: int) -> None:
    if not metrics:
        admin.output.say("Nothing has been measured yet.")
        return
    rows = [
        (
            metric.step,
            _number(metric.loss, 4),
            _number(metric.validation_nll, 4),
            _number(metric.gradient_norm, 3),
            _number(metric.tokens_per_s, 0),
        )
        for metric in metrics
    ]
    admin.output.data("")
    admin.output.table(("step", "loss", "validation loss", "gradient norm", "tokens/s"), rows)
    if earlier := measured - len(metrics):
        admin.output.say(f"{earlier} earlier ones are left out; --all shows them.")


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _local(unix_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(unix_s))
