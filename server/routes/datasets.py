"""``/admin/datasets`` and ``/admin/uploads``: dialogues come in and are looked at."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, get, patch, post
from litestar.params import FromPath, FromQuery, QueryParameter

from server.access.origins import require_json
from server.access.scopes import ADMIN
from server.console.command import command
from server.console.datasets import dataset_names, find_dataset, list_datasets
from server.console.job_cards import job_card
from server.console.uploads import UploadNotFound, UploadOutOfStep, Uploads, UploadTooLarge
from server.errors import Problem, Refused
from server.openapi.operations import taking
from server.openapi.operations_of_admin import (
    DATASET_ERRORS,
    PIECE_ERRORS,
    PREPARE_ERRORS,
    PREVIEW_ERRORS,
    UPLOAD_ERRORS,
    PieceOperation,
)
from server.routes.answering import body_of, ignored_header, unless_gone
from server.routes.provided import ProvidedJobs, ProvidedSettings, ProvidedUploads
from server.wire.datasets import (
    DatasetCard,
    DatasetList,
    DatasetPreview,
    PrepareRequest,
    PreviewDialogue,
    UploadCard,
    UploadRequest,
)
from server.wire.decode import decode_body
from server.wire.jobs import JobCard

PIECE_BYTES = 16 << 20
Split = Literal["train", "validation", "test"]
First = Annotated[int, QueryParameter(ge=1, le=2**31 - 1, description="The first, from 1.")]
Count = Annotated[int, QueryParameter(ge=1, le=50, description="How many dialogues to show.")]
Offset = Annotated[int, QueryParameter(ge=0, le=2**40, description="How many bytes are there.")]


@get(
    "/admin/datasets",
    opt=ADMIN,
    operation_id="listDatasets",
    summary="List the datasets",
    tags=["data"],
    response_description="The datasets, newest first.",
)
async def all_datasets(settings: ProvidedSettings) -> DatasetList:
    """What was prepared, with the reports of the cleaning."""
    return await asyncio.to_thread(list_datasets, settings.home.datasets)


@get(
    "/admin/datasets/{name:str}",
    opt=ADMIN,
    operation_id="retrieveDataset",
    summary="One dataset",
    tags=["data"],
    response_description="The dataset.",
    responses=DATASET_ERRORS,
)
async def retrieve_dataset(name: FromPath[str], settings: ProvidedSettings) -> DatasetCard:
    """Its splits, where it came from, and what the cleaning did to it."""
    return await asyncio.to_thread(find_dataset, settings.home.datasets, name)


@get(
    "/admin/datasets/{name:str}/preview",
    opt=ADMIN,
    operation_id="previewDataset",
    summary="Dialogues of a dataset",
    tags=["data"],
    response_description="Some dialogues.",
    responses=PREVIEW_ERRORS,
)
async def preview_dataset(
    request: Request[Any, Any, Any],
    name: FromPath[str],
    settings: ProvidedSettings,
    split: FromQuery[Split] = "train",
    first: First = 1,
    count: Count = 10,
) -> DatasetPreview:
    """Dialogues as a training sees them, and which pieces of them it learns.

    They are rendered with the base `pocket`, if it is here, else by roles alone, as `lccc-admin
    data preview` does.
    """
    found = find_dataset(settings.home.datasets, name)
    total = found.splits[split].dialogues if split in found.splits else 0
    shown = DatasetPreview(split=split, first=first, total=total, data=[])
    if first > total:
        return shown
    asked = ("data", "preview", f"--split={split}", f"--from={first}", f"--examples={count}")
    printed = command(settings.home, *asked, "--json", name)
    data = msgspec.convert(await unless_gone(printed, request.receive), list[PreviewDialogue])
    return msgspec.structs.replace(shown, data=data)


@post(
    "/admin/datasets",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="prepareDataset",
    operation_class=taking(PrepareRequest),
    summary="Prepare a dataset",
    tags=["data"],
    response_description="The process that prepares.",
    responses=PREPARE_ERRORS,
)
async def prepare_dataset(
    request: Request[Any, Any, Any],
    settings: ProvidedSettings,
    uploads: ProvidedUploads,
    jobs: ProvidedJobs,
) -> Response[JobCard]:
    """Run `lccc-admin data prepare` on an uploaded file, in a process of its own."""
    decoded = decode_body(await body_of(request), PrepareRequest)
    asked = decoded.request
    if asked.name in dataset_names(settings.home.datasets) and not asked.overwrite:
        message = f"name: there is a dataset '{asked.name}' already; overwrite: true replaces it."
        raise Refused(Problem(status=409, message=message, param="name", code="dataset_exists"))
    try:
        path = uploads.path(asked.upload)
    except (UploadNotFound, UploadOutOfStep) as error:
        raise Refused(_problem(error, asked.upload)) from error
    arguments = [
        *("data", "prepare", "--no-keep", f"--name={asked.name}", f"--rules={asked.rules}"),
        *(f"--seed={asked.seed}", f"--valid-share={asked.valid_share}"),
        f"--test-share={asked.test_share}",
        *(f"--set={name}={value}" for name, value in asked.overrides.items()),
        *(["--overwrite"] if asked.overwrite else []),
        *("--", str(path)),
    ]
    job = await asyncio.to_thread(jobs.start, "prepare", asked.name, arguments)
    return Response(job_card(job), headers=ignored_header(decoded.ignored))


@post(
    "/admin/uploads",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="beginUpload",
    operation_class=taking(UploadRequest),
    summary="Announce a file",
    tags=["data"],
    response_description="Where to send it.",
    responses=UPLOAD_ERRORS,
)
async def begin_upload(
    request: Request[Any, Any, Any], uploads: ProvidedUploads
) -> Response[UploadCard]:
    """Its bytes then come in pieces by `PATCH`. A file that nobody asks about goes after a day."""
    decoded = decode_body(await body_of(request), UploadRequest)
    asked = decoded.request
    try:
        card = await asyncio.to_thread(uploads.begin, asked.name, asked.size)
    except UploadTooLarge as error:
        problem = Problem(status=413, message=f"size: {error}.", param="size", code="no_room")
        raise Refused(problem) from error
    except OSError as error:
        raise Refused(_no_room(error)) from error
    return Response(card, headers=ignored_header(decoded.ignored))


@patch(
    "/admin/uploads/{upload_id:str}",
    status_code=200,
    opt=ADMIN,
    request_max_body_size=PIECE_BYTES,
    operation_id="continueUpload",
    operation_class=PieceOperation,
    summary="Send a piece of a file",
    tags=["data"],
    response_description="How far it is.",
    responses=PIECE_ERRORS,
)
async def continue_upload(
    request: Request[Any, Any, Any],
    upload_id: FromPath[str],
    uploads: ProvidedUploads,
    offset: Offset = 0,
) -> UploadCard:
    """The bytes from `offset` on, at most 16 MiB; an empty piece asks how far it is."""
    piece = await body_of(request)
    try:
        return await asyncio.to_thread(_append, uploads, upload_id, offset, piece)
    except (UploadNotFound, UploadOutOfStep) as error:
        raise Refused(_problem(error, upload_id)) from error
    except OSError as error:
        raise Refused(_no_room(error)) from error


def _append(uploads: Uploads, upload_id: str, offset: int, piece: bytes) -> UploadCard:
    return uploads.append(upload_id, offset, piece) if piece else uploads.get(upload_id)


def _problem(error: UploadNotFound | UploadOutOfStep, upload_id: str) -> Problem:
    if isinstance(error, UploadNotFound):
        message = f"There is no upload {upload_id!r}; they are kept for a day."
        return Problem(status=404, message=message, param="upload", code="upload_not_found")
    message = f"The upload has {error.received} bytes: go on from there."
    return Problem(status=409, message=message, param="offset", code="upload_out_of_step")


def _no_room(error: OSError) -> Problem:
    message = f"The file cannot be kept: {error.strerror or error}."
    return Problem(status=503, message=message, type="server_error", code="no_room")
