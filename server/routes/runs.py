"""``/admin/runs``: trainings, whoever started them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.params import FromPath, QueryParameter

from server.access.origins import require_json
from server.access.scopes import ADMIN
from server.console.job_cards import job_card
from server.console.run_records import card, log_text
from server.openapi.operations import taking
from server.openapi.operations_of_admin import NO_RUN, RESUME_ERRORS, STOP_ERRORS
from server.routes.answering import body_of, ignored_header
from server.routes.provided import ProvidedRecords, ProvidedTrainings
from server.wire.decode import decode_body
from server.wire.jobs import JobCard
from server.wire.runs import LogText, RunCard, RunDetail, RunList, RunMetrics, TrainingRequest

# Litestar's document drops a bound of 0 where there may be nothing.
_NOT_BELOW_0: dict[str, Any] = {"minimum": 0}
Step = Annotated[int | None, QueryParameter(ge=0, le=2**53, schema_extra=_NOT_BELOW_0)]
Points = Annotated[int, QueryParameter(ge=2, le=5000, description="The most points of each curve.")]
After = Annotated[
    int | None,
    QueryParameter(
        ge=0,
        le=2**53,
        description="Only what events with higher numbers measured.",
        schema_extra=_NOT_BELOW_0,
    ),
]
Byte = Annotated[
    int,
    QueryParameter(
        ge=-(2**53), le=2**53, description="Where to begin; below 0, from the end of the file."
    ),
]


@get(
    "/admin/runs",
    opt=ADMIN,
    operation_id="listRuns",
    summary="List the trainings",
    tags=["training"],
    response_description="The runs, newest first.",
)
async def list_runs(records: ProvidedRecords) -> RunList:
    """Every run of this home, also those that the command line started."""
    return RunList(data=await asyncio.to_thread(records.list))


@get(
    "/admin/runs/{run_id:str}",
    opt=ADMIN,
    operation_id="retrieveRun",
    summary="One training",
    tags=["training"],
    response_description="The run.",
    responses=NO_RUN,
)
async def retrieve_run(run_id: FromPath[str], records: ProvidedRecords) -> RunDetail:
    """Its status, recipe, checkpoints, samples and warnings."""
    return await asyncio.to_thread(records.detail, run_id)


@get(
    "/admin/runs/{run_id:str}/metrics",
    opt=ADMIN,
    operation_id="retrieveRunMetrics",
    summary="What a training measured",
    tags=["training"],
    response_description="The curves.",
    responses=NO_RUN,
)
async def run_metrics(
    run_id: FromPath[str],
    records: ProvidedRecords,
    points: Points = 1000,
    first_step: Step = None,
    last_step: Step = None,
    after: After = None,
) -> RunMetrics:
    """The curves over the steps, with no extreme left out however few the points are.

    Steps that a resumed run has made again count once.
    """
    if after is not None:
        return await asyncio.to_thread(records.metrics_after, run_id, after, points)
    return await asyncio.to_thread(records.metrics, run_id, points, first_step, last_step)


@get(
    "/admin/runs/{run_id:str}/log",
    opt=ADMIN,
    operation_id="retrieveRunLog",
    summary="The log of a training",
    tags=["training"],
    response_description="A piece of it.",
    responses=NO_RUN,
)
async def run_log(run_id: FromPath[str], records: ProvidedRecords, after: Byte = 0) -> LogText:
    """Whole lines, at most 256 KiB of them; `next` is where the next piece begins."""
    path = records.get(run_id).log_path
    return await asyncio.to_thread(log_text, path, after)


@post(
    "/admin/runs",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="startRun",
    operation_class=taking(TrainingRequest),
    summary="Start a training",
    tags=["training"],
    response_description="The process that trains.",
)
async def start_run(
    request: Request[Any, Any, Any], trainings: ProvidedTrainings
) -> Response[JobCard]:
    """Run `lccc-admin train` in a process of its own, which goes on without this server.

    What it refuses is the error of the job; the job names the run as soon as there is one.
    """
    decoded = decode_body(await body_of(request), TrainingRequest)
    job = await asyncio.to_thread(trainings.start, decoded.request)
    return Response(job_card(job), headers=ignored_header(decoded.ignored))


@post(
    "/admin/runs/{run_id:str}/stop",
    status_code=200,
    opt=ADMIN,
    operation_id="stopRun",
    summary="Stop a training",
    tags=["training"],
    response_description="The run, which will end.",
    responses=STOP_ERRORS,
)
async def stop_run(run_id: FromPath[str], trainings: ProvidedTrainings) -> RunCard:
    """Have it end after its present step, with a checkpoint."""
    return card(await asyncio.to_thread(trainings.stop, run_id))


@post(
    "/admin/runs/{run_id:str}/resume",
    status_code=200,
    opt=ADMIN,
    operation_id="resumeRun",
    summary="Go on with a training",
    tags=["training"],
    response_description="The process that trains.",
    responses=RESUME_ERRORS,
)
async def resume_run(run_id: FromPath[str], trainings: ProvidedTrainings) -> JobCard:
    """Run `lccc-admin train --resume` in a process of its own."""
    return job_card(await asyncio.to_thread(trainings.resume, run_id))
