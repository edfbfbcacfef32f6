"""``POST /v1/load_lora_adapter`` and ``/v1/unload_lora_adapter``: adapters come and go."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, post

from server.access.origins import require_json
from server.access.scopes import ADMIN
from server.openapi.operations import LOAD_ERRORS, UNLOAD_ERRORS, LoadAdapterOperation, taking
from server.registrar import Words
from server.routes.answering import body_of, ignored_header
from server.routes.provided import ProvidedRegistrar
from server.wire.decode import decode_body
from server.wire.lora import LoadAdapterRequest, UnloadAdapterRequest

_WORDS = Words(name="lora_name", source="lora_path", replaces="load_inplace")


@post(
    "/load_lora_adapter",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="loadLoraAdapter",
    operation_class=LoadAdapterOperation,
    summary="Register an adapter from the server's disk",
    tags=["adapters"],
    media_type="text/plain",
    response_description="It is registered and served.",
    responses=LOAD_ERRORS,
)
async def load_lora_adapter(
    request: Request[Any, Any, Any], registrar: ProvidedRegistrar
) -> Response[str]:
    """Check the PEFT adapter in a directory, copy it into the registry and serve it.

    As vLLM has it, except that the adapter survives a restart. Everything is checked before
    anything changes, and a refusal has all reasons. Replies that are being written keep the version
    that they began with.
    """
    decoded = decode_body(await body_of(request), LoadAdapterRequest)
    asked = decoded.request
    entry = await registrar.load(
        asked.lora_name,
        asked.lora_path,
        _WORDS,
        replaces=bool(asked.load_inplace),
        assume_base=bool(asked.assume_base),
    )
    headers = ignored_header(decoded.ignored) | {
        "x-adapter-id": entry.name,
        "x-adapter-version": entry.digest[:12],
    }
    return Response(
        f"Success: LoRA adapter '{entry.name}' added successfully.",
        media_type="text/plain",
        headers=headers,
    )


@post(
    "/unload_lora_adapter",
    status_code=200,
    guards=[require_json],
    opt=ADMIN,
    operation_id="unloadLoraAdapter",
    operation_class=taking(UnloadAdapterRequest),
    summary="Stop serving an adapter",
    tags=["adapters"],
    media_type="text/plain",
    response_description="Its name is free.",
    responses=UNLOAD_ERRORS,
)
async def unload_lora_adapter(
    request: Request[Any, Any, Any], registrar: ProvidedRegistrar
) -> Response[str]:
    """Take the adapter's name away; its files stay until `lccc-admin adapters gc`.

    Replies that are being written are finished.
    """
    decoded = decode_body(await body_of(request), UnloadAdapterRequest)
    name = decoded.request.lora_name
    await registrar.unload(name, _WORDS.name)
    return Response(
        f"Success: LoRA adapter '{name}' removed successfully.",
        media_type="text/plain",
        headers=ignored_header(decoded.ignored),
    )
