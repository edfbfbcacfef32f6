"""``/admin/jobs``: the processes that the server has started."""

from __future__ import annotations

import asyncio

from litestar import get, post
from litestar.params import FromPath

from server.access.scopes import ADMIN
from server.console.job_cards import job_card
from server.console.jobs import Job, JobEnded, JobNotFound, Jobs
from server.errors import Problem, Refused, wrong_state
from server.openapi.operations_of_admin import CANCEL_ERRORS, NO_JOB
from server.routes.provided import ProvidedJobs
from server.wire.jobs import JobCard, JobList

_LISTED = 50
_LINES = 200


@get(
    "/admin/jobs",
    opt=ADMIN,
    operation_id="listJobs",
    summary="List the jobs",
    tags=["training"],
    response_description="The newest jobs first.",
)
async def list_jobs(jobs: ProvidedJobs) -> JobList:
    """What was started here; all that each wrote but its last line is left out."""
    found = await asyncio.to_thread(lambda: [job_card(job) for job in jobs.all()[:_LISTED]])
    return JobList(data=found)


@get(
    "/admin/jobs/{job_id:str}",
    opt=ADMIN,
    operation_id="retrieveJob",
    summary="One job",
    tags=["training"],
    response_description="The job.",
    responses=NO_JOB,
)
async def retrieve_job(job_id: FromPath[str], jobs: ProvidedJobs) -> JobCard:
    """How it is going, and the last of what it wrote."""
    job = await asyncio.to_thread(_job, jobs, job_id)
    return job_card(job, lines=_LINES)


@post(
    "/admin/jobs/{job_id:str}/cancel",
    status_code=200,
    opt=ADMIN,
    operation_id="cancelJob",
    summary="Cancel a job",
    tags=["training"],
    response_description="The job.",
    responses=CANCEL_ERRORS,
)
async def cancel_job(job_id: FromPath[str], jobs: ProvidedJobs) -> JobCard:
    """Its process is told to end (SIGTERM), and removes what is half made first.

    A training that steps already ends with a checkpoint and can be resumed.
    """
    job = await asyncio.to_thread(_job, jobs, job_id)
    try:
        await asyncio.to_thread(job.cancel)
    except JobEnded as error:
        raise wrong_state(f"The job {job_id} is not running: it is {error}.") from error
    return job_card(job)


def _job(jobs: Jobs, job_id: str) -> Job:
    try:
        return jobs.get(job_id)
    except JobNotFound as error:
        message = f"There is no job {job_id!r}; the server keeps the newest hundred."
        raise Refused(Problem(status=404, message=message, code="not_found")) from error
