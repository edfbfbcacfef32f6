"""``/admin/logs``: what this server has logged."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.params import QueryParameter

from server.access.scopes import ADMIN
from server.routes.provided import ProvidedSources
from server.wire.logs import LogLines

Seq = Annotated[int, QueryParameter(ge=0, le=2**53, description="Only lines with higher numbers.")]


@get(
    "/admin/logs",
    opt=ADMIN,
    operation_id="listLogLines",
    summary="The server's log",
    tags=["console"],
    response_description="Its last lines.",
)
async def list_log_lines(sources: ProvidedSources, after: Seq = 0) -> LogLines:
    """The newest 2,000 lines of this process, of level info and above."""
    return sources.logbook.after(after)
