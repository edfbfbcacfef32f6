"""``lccc-admin jobs``: the processes that the console, or a client of `/admin`, has started."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from adapters.errors import LcccError
from admin.context import AdminContext, pass_admin
from admin.options import json_option
from admin.output import local_time

if TYPE_CHECKING:
    from server.console.jobs import Job

CANCEL_TIMEOUT_S = 60.0
POLL_S = 0.1

job_argument = click.argument("job_id", metavar="JOB")


class JobError(LcccError):
    """There is no such job, or it cannot be cancelled."""


@click.group()
def jobs() -> None:
    """Look at what was started over HTTP: trainings, sweeps, preparations, merges, evaluations."""


@jobs.command("list")
@json_option
@pass_admin
def list_jobs(admin: AdminContext, as_json: bool) -> None:
    """List the jobs, newest first."""
    from server.console.jobs import Jobs

    found = Jobs(admin.home).all()
    if as_json:
        admin.output.json([_card(job) for job in found])
        return
    if not found:
        admin.output.say(
            "No jobs yet. The console starts them: `lccc-admin serve` prints its link."
        )
        return
    rows = [
        (
            job.id,
            _state(job),
            job.record().kind,
            job.record().subject,
            local_time(job.record().started),
        )
        for job in found
    ]
    admin.output.table(("job", "state", "kind", "subject", "started"), rows, whole=("job",))


@jobs.command("show")
@job_argument
@json_option
@pass_admin
def show_job(admin: AdminContext, job_id: str, as_json: bool) -> None:
    """Show one job: how it stands, and the last of what it wrote."""
    job = _job(admin, job_id)
    if as_json:
        admin.output.json(_card(job) | {"output": job.output()})
        return
    facts = {name: value for name, value in _card(job).items() if value not in (None, "")}
    if (progress := facts.get("progress")) is not None:
        of = f"{progress.done:,} of {progress.total:,} " if progress.total else ""
        facts["progress"] = f"{progress.share:.0%}, {progress.stage}: {of}{progress.subject}"
    admin.output.table(("job", ""), list(facts.items()), whole=("job",))
    admin.output.data(job.output().rstrip())


@jobs.command("cancel")
@job_argument
@pass_admin
def cancel_job(admin: AdminContext, job_id: str) -> None:
    """End a job, and wait until its process has removed what is half made."""
    from server.console.jobs import JobEnded

    job = _job(admin, job_id)
    try:
        job.cancel()
    except JobEnded as error:
        raise JobError(f"The job {job_id} is not running: it is {error}.") from error
    end_s = time.monotonic() + CANCEL_TIMEOUT_S
    while job.state() == "running":
        if time.monotonic() > end_s:
            raise JobError(
                f"The job {job_id} was told to end and still runs after {CANCEL_TIMEOUT_S:.0f} s; "
                f"its process is {job.record().pid}."
            )
        time.sleep(POLL_S)
    admin.output.say(f"The job {job_id} is {job.state()}.")


def _job(admin: AdminContext, job_id: str) -> Job:
    from server.console.jobs import JobNotFound, Jobs

    try:
        return Jobs(admin.home).get(job_id)
    except JobNotFound as error:
        message = f"There is no job '{job_id}'; `lccc-admin jobs list` lists them."
        raise JobError(message) from error


def _state(job: Job) -> str:
    state, progress = job.state(), job.progress()
    return f"{state} {progress.share:.0%}" if state == "running" and progress else state


def _card(job: Job) -> dict[str, Any]:
    record = job.record()
    return {
        "id": job.id,
        "state": job.state(),
        "kind": record.kind,
        "subject": record.subject,
        "started": record.started,
        "pid": record.pid,
        "run": job.run(),
        "result": record.result,
        "progress": job.progress() if job.state() == "running" else None,
        "error": job.error(),
    }
