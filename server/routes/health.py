"""``/health`` (the process answers) and ``/ready`` (it can serve)."""

from __future__ import annotations

from typing import Any

from litestar import Response, get

from server.access.scopes import FREE
from server.errors import NOT_READY
from server.openapi.operations import READY_ERRORS
from server.routes.provided import ProvidedEngine
from server.wire.models import Health


@get(
    "/health",
    opt=FREE,
    operation_id="health",
    summary="Is the process alive?",
    tags=["health"],
    response_description="It is.",
)
async def health() -> Health:
    """Always 200 while the process answers."""
    return Health(status="ok")


@get(
    "/ready",
    opt=FREE,
    operation_id="ready",
    summary="Can requests be served?",
    tags=["health"],
    response_description="They can.",
    responses=READY_ERRORS,
)
async def ready(engine: ProvidedEngine) -> Response[Health]:
    """200 once the engine serves; 503 before that, after a failure, and while shutting down."""
    answer: Response[Any] = (
        Response(Health(status="ready")) if engine.is_ready else NOT_READY.response()
    )
    return answer
