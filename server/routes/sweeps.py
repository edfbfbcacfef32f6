"""``/admin/sweeps``: sweeps, whoever started them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, QueryParameter

from server.access.origins import require_json
from server.access.scopes import ADMIN
from server.console.job_cards import job_card
from server.openapi.operations import taking
from server.openapi.operations_of_admin import (
    NO_SWEEP,
    SWEEP_PLAN_ERRORS,
    SWEEP_RESUME_ERRORS,
    SWEEP_START_ERRORS,
    SWEEP_STOP_ERRORS,
)
from server.routes.answering import body_of, ignored_header, unless_gone
from server.routes.provided import ProvidedSweeps
from server.wire.decode import decode_body
from server.wire.jobs import JobCard
from server.wire.sweeps import SweepCard, SweepDetail, SweepList, SweepPlan, SweepRequest

RetryFailed = Annotated[
    bool, QueryParameter(description="Also go on with trials that failed before.")
]


@get(
    "/admin/sweeps",
    opt=ADMIN,
    operation_id="listSweeps",
    summary="List the sweeps",
    tags=["training"],
    response_description="The sweeps, newest first.",
)
async def list_sweeps(sweeps: ProvidedSweeps) -> SweepList:
    """Every sweep of this home that has begun, also those that the command line started."""
    return await asyncio.to_thread(sweeps.list)


@get(
    "/admin/sweeps/{name:str}",
    opt=ADMIN,
    operation_id="retrieveSweep",
    summary="One sweep",
    tags=["training"],
    response_description="The sweep.",
    responses=NO_SWEEP,
)
async def retrieve_sweep(name: FromPath[str], sweeps: ProvidedSweeps) -> SweepDetail:
    """Its trials, with what came of each or how far it is."""
    return await asyncio.to_thread(sweeps.detail, name)


@post(
    "/admin/sweeps/plan",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="planSweep",
    operation_class=taking(SweepRequest),
    summary="Plan a sweep",
    tags=["training"],
    response_description="What it would do and take.",
    responses=SWEEP_PLAN_ERRORS,
)
async def plan_sweep(
    request: Request[Any, Any, Any], sweeps: ProvidedSweeps
) -> Response[SweepPlan]:
    """Check everything, and count trials and steps, as `lccc-admin sweep --dry-run` does."""
    decoded = decode_body(await body_of(request), SweepRequest)
    found = await unless_gone(sweeps.plan(decoded.request.definition), request.receive)
    plan = msgspec.convert(found, SweepPlan)
    return Response(plan, headers=ignored_header(decoded.ignored))


@post(
    "/admin/sweeps",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="startSweep",
    operation_class=taking(SweepRequest),
    summary="Start a sweep",
    tags=["training"],
    response_description="The process that goes through the trials.",
    responses=SWEEP_START_ERRORS,
)
async def start_sweep(request: Request[Any, Any, Any], sweeps: ProvidedSweeps) -> Response[JobCard]:
    """Run `lccc-admin sweep` in a process of its own, which goes on without this server.

    One of that name that has begun goes on, with the trials that the definition has now.
    """
    decoded = decode_body(await body_of(request), SweepRequest)
    job = await asyncio.to_thread(sweeps.start, decoded.request.definition)
    return Response(job_card(job), headers=ignored_header(decoded.ignored))


@post(
    "/admin/sweeps/{name:str}/stop",
    status_code=200,
    opt=ADMIN,
    operation_id="stopSweep",
    summary="Stop a sweep",
    tags=["training"],
    response_description="The sweep, which will end.",
    responses=SWEEP_STOP_ERRORS,
)
async def stop_sweep(name: FromPath[str], sweeps: ProvidedSweeps) -> SweepCard:
    """Have its present trial end with a checkpoint; no other begins."""
    return await asyncio.to_thread(sweeps.stop, name)


@post(
    "/admin/sweeps/{name:str}/resume",
    status_code=200,
    opt=ADMIN,
    operation_id="resumeSweep",
    summary="Go on with a sweep",
    tags=["training"],
    response_description="The process that goes through the trials.",
    responses=SWEEP_RESUME_ERRORS,
)
async def resume_sweep(
    name: FromPath[str], sweeps: ProvidedSweeps, retry_failed: RetryFailed = False
) -> JobCard:
    """Run `lccc-admin sweep` on it again, in a process of its own; what is done is not repeated."""
    return job_card(await asyncio.to_thread(sweeps.resume, name, retry_failed=retry_failed))
