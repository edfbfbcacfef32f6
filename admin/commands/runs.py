"""``lccc-admin runs``: the records of past and present trainings."""

from __future__ import annotations

import time

import click

from admin.context import AdminContext, pass_admin


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
            "" if status.validation_nll is None else f"{status.validation_nll:.4f}",
            status.base,
            status.dataset,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(status.started)),
        )
        for status in found
    ]
    columns = ("run", "state", "step", "validation loss", "base", "dataset", "started")
    admin.output.table(columns, rows)


@runs.command("show")
@click.argument("run_id", metavar="RUN")
@click.option("--json", "as_json", is_flag=True, help="Print status and metrics as JSON.")
@pass_admin
def show_run(admin: AdminContext, run_id: str, as_json: bool) -> None:
    """Show one run: its status and what was measured."""
    import msgspec

    from training.runs import RunStore

    run = RunStore(admin.home.runs).get(run_id)
    status, metrics = run.status(), list(run.metrics())
    if as_json:
        admin.output.json({"status": status, "metrics": metrics})
        return
    fields = msgspec.to_builtins(status)
    admin.output.table(("run", ""), [(k, v) for k, v in fields.items() if v is not None])
    measured = [metric for metric in metrics if metric.kind != "checkpoint"]
    rows = [
        (
            metric.step,
            "" if metric.loss is None else f"{metric.loss:.4f}",
            "" if metric.validation_nll is None else f"{metric.validation_nll:.4f}",
            "" if metric.gradient_norm is None else f"{metric.gradient_norm:.3f}",
            "" if metric.tokens_per_s is None else f"{metric.tokens_per_s:.0f}",
        )
        for metric in measured
    ]
    admin.output.data("")
    admin.output.table(("step", "loss", "validation loss", "gradient norm", "tokens/s"), rows)
    admin.output.say(f"Log and checkpoints: {run.directory}")
    if status.state in ("stopped", "failed", "interrupted"):
        admin.output.say(f"Continue it with: lccc-admin train --resume {run.id}")
