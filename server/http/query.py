"""Which fields a route reads of the query of a URL, and the refusal of all others.

A field that is only misspelt would otherwise be passed over, and the answer be that to another
question. Routes that read no field let every query pass, as caches and gateways add their own.
"""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter

from server.wire.errors import InvalidRequest

_LONGEST_ECHO = 100


async def require_known_query(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """Refuse a query with a field that ``handler`` does not read. A guard of the whole application.

    Raises:
        InvalidRequest: 400, it names the first of them.
    """
    if not isinstance(connection, Request) or not (known := query_fields(handler)):
        return
    for name in connection.query_params:
        if name not in known:
            shown = name[:_LONGEST_ECHO]
            raise InvalidRequest(
                f"{shown}: there is no such field in this query; known: {', '.join(known)}.",
                shown,
                "unknown_parameter",
            )


def query_fields(handler: BaseRouteHandler) -> tuple[str, ...]:
    """The names of the fields that ``handler`` reads, in its order."""
    parameters = handler.parsed_fn_signature.parameters
    return tuple(
        field.kwarg_definition.name or name
        for name, field in parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    )
