"""``/admin/jobs``: the processes that the server has started."""

from __future__ import annotations

import asyncio

from litestar import get
from litestar.params import FromPath

from server.access import ADMIN
from server.errors import Problem, Refused
from server.jobs import Job, JobNotFound
from server.openapi_of_admin import NO_JOB
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
    """Trainings and preparations that were started here; what they wrote is left out."""
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
    try:
        job = await asyncio.to_thread(jobs.get, job_id)
    except JobNotFound as error:
        message = f"There is no job {job_id!r}; the server keeps the newest hundred."
        raise Refused(Problem(status=404, message=message, code="not_found")) from error
    return job_card(job, lines=_LINES)


def job_card(job: Job, lines: int = 0) -> JobCard:
    """A job as it stands, with its last ``lines`` of output."""
    record = job.record()
    output = job.output().splitlines()[-lines:] if lines else []
    return JobCard(
        id=job.id,
        kind=record.kind,
        subject=record.subject,
        state=job.state(),
        started=record.started,
        run=job.run(),
        error=job.error(),
        output="\n".join(output),
    )
