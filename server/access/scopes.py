"""Which scope a route takes: said once, where the route is, and held by one guard for them all.

A handler says ``opt=INFERENCE``, ``opt=ADMIN`` or ``opt=FREE``; the OpenAPI document says the same.
One that says nothing is the admin's, so that whoever forgets it shuts a door and opens none.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final, Literal

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from server.access.doorkeeper import Doorkeeper
from server.access.origins import SAFE_METHODS
from server.errors import Refused

Access = Literal["free", "inference", "admin"]

_OPTION = "access"
FREE: Final = MappingProxyType({_OPTION: "free"})
INFERENCE: Final = MappingProxyType({_OPTION: "inference"})
ADMIN: Final = MappingProxyType({_OPTION: "admin"})


def access_of(handler: BaseRouteHandler) -> Access:
    """What ``handler`` says that it takes."""
    return handler.opt.get(_OPTION, "admin")


async def require_access(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> None:
    """Refuse who may not use ``handler``. A guard of the whole application.

    Raises:
        Refused: 401, 403 or 503.
    """
    needed = access_of(handler)
    if connection.scope.get("method") == "OPTIONS" and _OPTION not in handler.opt:
        needed = "inference"  # Litestar's own answer, which only lists the methods
    if needed != "free":
        doorkeeper: Doorkeeper = connection.app.state.doorkeeper
        changes_nothing = connection.scope.get("method", "GET") in SAFE_METHODS
        problem = doorkeeper.refusal(
            needed, connection.scope["headers"], changes_nothing=changes_nothing
        )
        if problem is not None:
            raise Refused(problem)


def hide_from_strangers(request: Request[Any, Any, Any], error: Exception) -> Exception:
    """What to answer to ``error``: that there is no such path, only who has a key is told.

    What the router refuses by itself has met no guard.
    """
    if "route_handler" in request.scope:
        return error
    doorkeeper: Doorkeeper = request.app.state.doorkeeper
    problem = doorkeeper.refusal("inference", request.scope["headers"])
    return error if problem is None else Refused(problem)
