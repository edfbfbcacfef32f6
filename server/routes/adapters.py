"""``/admin/adapters``: adapters come from runs, get other names, go, and are taken away."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request, Response, delete, get, post
from litestar.params import FromPath
from litestar.response import Stream

from server.access import ADMIN
from server.openapi_of_admin import (
    NO_ADAPTER,
    REGISTER_ERRORS,
    RENAME_ERRORS,
    DownloadOperation,
    RegisterOperation,
    RenameOperation,
)
from server.routes.answering import body_of, ignored_header
from server.routes.provided import ProvidedRecords, ProvidedRegistrar
from server.security import require_json
from server.wire.adapters import RegisteredAdapter, RegisterRequest, RenameRequest
from server.wire.decode import decode_body

_BLOCK = 1 << 18


@post(
    "/admin/adapters",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="registerAdapter",
    operation_class=RegisterOperation,
    summary="Register a run's adapter",
    tags=["adapters"],
    response_description="It is served.",
    responses=REGISTER_ERRORS,
)
async def register_adapter(
    request: Request[Any, Any, Any], registrar: ProvidedRegistrar, records: ProvidedRecords
) -> Response[RegisteredAdapter]:
    """Check what a training has published, copy it into the registry and serve it."""
    decoded = decode_body(await body_of(request), RegisterRequest)
    asked = decoded.request
    path = records.get(asked.run).adapter.absolute()
    entry = await registrar.load(asked.name, str(path), replaces=asked.replaces)
    shown = RegisteredAdapter(name=entry.name, digest=entry.digest)
    return Response(shown, headers=ignored_header(decoded.ignored))


@post(
    "/admin/adapters/{name:str}/rename",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="renameAdapter",
    operation_class=RenameOperation,
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
    await registrar.unload(name)


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
