"""Jobs as the console shows them."""

from __future__ import annotations

from server.console.jobs import Job
from server.wire.jobs import JobCard


def job_card(job: Job, lines: int = 0) -> JobCard:
    """A job as it stands, with its last ``lines`` of output.

    Raises:
        JobNotFound: it cannot be read.
    """
    record, state = job.record(), job.state()
    output = job.output().rstrip()
    return JobCard(
        id=job.id,
        kind=record.kind,
        subject=record.subject,
        state=state,
        started=record.started,
        run=job.run(),
        result=record.result if state == "completed" else None,
        is_asked_to_cancel=state == "running" and job.is_asked_to_cancel(),
        progress=job.progress() if state == "running" else None,
        error=job.error(),
        said=output.rpartition("\n")[2],
        output="\n".join(output.splitlines()[-lines:] if lines else []),
    )
