"""``/admin/adapters``: adapters come, are measured and merged, get other names, and go."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath
from litestar.response import Stream

from server.access.origins import require_json
from server.access.scopes import ADMIN
from server.console.job_cards import job_card
from server.console.run_records import RunRecords
from server.errors import Problem, Refused
from server.openapi.operations import taking
from server.openapi.operations_of_admin import (
    EVALUATE_ERRORS,
    MERGE_ERRORS,
    NO_ADAPTER,
    REGISTER_ERRORS,
    RENAME_ERRORS,
    UNREADABLE,
    DownloadOperation,
)
from server.registrar import Words
from server.routes.answering import body_of, ignored_header
from server.routes.provided import (
    ProvidedAdapterCards,
    ProvidedAdapterJobs,
    ProvidedEngine,
    ProvidedMetrics,
    ProvidedRecords,
    ProvidedRegistrar,
)
from server.wire.adapters import (
    AdapterList,
    EvaluationRequest,
    MergeRequest,
    RegisteredAdapter,
    RegisterRequest,
    RenameRequest,
)
from server.wire.decode import decode_body
from server.wire.jobs import JobCard

_BLOCK = 1 << 18


@get(
    "/admin/adapters",
    opt=ADMIN,
    operation_id="listAdapters",
    summary="Everything known of the adapters",
    tags=["adapters"],
    response_description="The base, and its adapters by name.",
    responses=UNREADABLE,
)
async def all_adapters(
    adapter_cards: ProvidedAdapterCards, engine: ProvidedEngine, metrics: ProvidedMetrics
) -> AdapterList:
    """Where each comes from, what was measured of it, and how much it is asked for."""
    resident, served = engine.load().resident, metrics.served()
    return await asyncio.to_thread(adapter_cards.list, engine.base, engine.device, resident, served)


@post(
    "/admin/adapters",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="registerAdapter",
    operation_class=taking(RegisterRequest),
    summary="Register an adapter",
    tags=["adapters"],
    response_description="It is served.",
    responses=REGISTER_ERRORS,
)
async def register_adapter(
    request: Request[Any, Any, Any], registrar: ProvidedRegistrar, records: ProvidedRecords
) -> Response[RegisteredAdapter]:
    """Check what a run has made, or what lies in a directory, copy it into the registry, serve it.

    Either `run` or `path` has to be given.
    """
    decoded = decode_body(await body_of(request), RegisterRequest)
    asked = decoded.request
    path = _source(asked, records)
    words = Words(name="name", source="path" if asked.run is None else "run", replaces="replaces")
    entry = await registrar.load(
        asked.name, path, words, replaces=asked.replaces, assume_base=asked.assume_base
    )
    shown = RegisteredAdapter(name=entry.name, digest=entry.digest)
    return Response(shown, headers=ignored_header(decoded.ignored))


def _source(asked: RegisterRequest, records: RunRecords) -> str:
    """The directory that is asked for.

    Raises:
        RunNotFound: there is no such run.
        Refused: 400, neither or both are given.
    """
    if (asked.run is None) == (asked.path is None):
        message = "run: give either a run or a path, the one that has the adapter."
        raise Refused(Problem(status=400, message=message, param="run"))
    return asked.path or str(records.get(asked.run or "").adapter.absolute())


@post(
    "/admin/adapters/{name:str}/merge",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="mergeAdapter",
    operation_class=taking(MergeRequest),
    summary="Merge an adapter into a base",
    tags=["adapters"],
    response_description="The process that merges.",
    responses=MERGE_ERRORS,
)
async def merge_adapter(
    request: Request[Any, Any, Any], name: FromPath[str], adapter_jobs: ProvidedAdapterJobs
) -> Response[JobCard]:
    """Run `lccc-admin adapters merge` in a process of its own; the adapter stays as it is."""
    decoded = decode_body(await body_of(request), MergeRequest)
    job = await asyncio.to_thread(adapter_jobs.merge, name, decoded.request)
    return Response(job_card(job), headers=ignored_header(decoded.ignored))


@post(
    "/admin/evaluations",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="evaluateAdapters",
    operation_class=taking(EvaluationRequest),
    summary="Measure adapters on a dataset",
    tags=["adapters"],
    response_description="The process that measures.",
    responses=EVALUATE_ERRORS,
)
async def evaluate_adapters(
    request: Request[Any, Any, Any], adapter_jobs: ProvidedAdapterJobs
) -> Response[JobCard]:
    """Run `lccc-admin evaluate` in a process of its own; `GET /admin/adapters` has the figures."""
    decoded = decode_body(await body_of(request), EvaluationRequest)
    job = await asyncio.to_thread(adapter_jobs.evaluate, decoded.request)
    return Response(job_card(job), headers=ignored_header(decoded.ignored))


@post(
    "/admin/adapters/{name:str}/rename",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="renameAdapter",
    operation_class=taking(RenameRequest),
    summary="Rename an adapter",
    tags=["adapters"],
    response_description="It is served as that.",
    responses=RENAME_ERRORS,
)
async def rename_adapter(
    request: Request[Any, Any, Any], name: FromPath[str], registrar: ProvidedRegistrar
) -> Response[RegisteredAdapter]:
    """Clients that ask for the old name are told that it is gone."""
    decoded = decode_body(await body_of(request), RenameRequest)
    entry = await registrar.rename(name, decoded.request.to)
    shown = RegisteredAdapter(name=entry.name, digest=entry.digest)
    return Response(shown, headers=ignored_header(decoded.ignored))


@delete(
    "/admin/adapters/{name:str}",
    status_code=204,
    opt=ADMIN,
    operation_id="removeAdapter",
    summary="Stop serving an adapter",
    tags=["adapters"],
    response_description="Its name is free.",
    responses=NO_ADAPTER,
)
async def remove_adapter(name: FromPath[str], registrar: ProvidedRegistrar) -> None:
    """Its files stay until `lccc-admin adapters gc`; running replies are finished."""
    await registrar.unload(name, "name")


@get(
    "/admin/adapters/{name:str}/download",
    opt=ADMIN,
    operation_id="downloadAdapter",
    operation_class=DownloadOperation,
    summary="An adapter's files",
    tags=["adapters"],
    media_type="application/zip",
    response_description="A ZIP file, not compressed.",
    responses=NO_ADAPTER,
)
async def download_adapter(name: FromPath[str], registrar: ProvidedRegistrar) -> Stream:
    """PEFT's two files and the manifest, hashed again before they go out."""
    packed = await asyncio.to_thread(registrar.packed, name)

    async def blocks() -> Any:
        with packed:
            while block := await asyncio.to_thread(packed.read, _BLOCK):
                yield block

    headers = {"content-disposition": f'attachment; filename="{name}.zip"'}
    return Stream(blocks(), media_type="application/zip", headers=headers)
