"""``GET /openapi.json``: the same bytes as the committed document."""

from __future__ import annotations

from litestar import Response, get

from server.access.scopes import FREE
from server.routes.provided import ProvidedDocument


@get("/openapi.json", opt=FREE, include_in_schema=False)
async def openapi_document(document: ProvidedDocument) -> Response[bytes]:
    """The OpenAPI description of this server; the same wherever this version runs, so no secret."""
    return Response(document, media_type="application/json")
