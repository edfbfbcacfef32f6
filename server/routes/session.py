"""``/admin/session``: a key is shown once, and a cookie stands for it from then on."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, delete, get, post

from server.access.doorkeeper import INSUFFICIENT, UNMEANT
from server.access.origins import require_json
from server.access.scopes import ADMIN, FREE
from server.access.sessions import LONGEST_S, Session, cookie, is_meant
from server.errors import Refused
from server.openapi.operations import SESSION_ERRORS, taking
from server.routes.answering import body_of
from server.routes.provided import ProvidedDoorkeeper
from server.wire.decode import decode_body
from server.wire.session import OpenSession, SignIn


@post(
    "/admin/session",
    status_code=200,
    guards=[require_json],
    opt=FREE,
    operation_id="openSession",
    operation_class=taking(SignIn),
    summary="Sign a browser in",
    tags=["console"],
    response_description="The cookie is set.",
    responses=SESSION_ERRORS,
)
async def open_session(
    request: Request[Any, Any, Any], doorkeeper: ProvidedDoorkeeper
) -> Response[OpenSession]:
    """Take an admin key, or the server's token, and set a cookie that stands for it.

    The session lasts for seven days, or until the key is revoked or the server ends. Requests with
    the cookie that may change something also need the header `x-lccc-csrf`.
    """
    asked = decode_body(await body_of(request), SignIn).request
    key = doorkeeper.key_of(asked.key)
    if not key.may("admin"):
        raise Refused(INSUFFICIENT)
    secret, session = doorkeeper.sessions.open(key)
    headers = {"set-cookie": cookie(request.scope["headers"], secret, LONGEST_S)}
    return Response(_shown(session), headers=headers)


@get(
    "/admin/session",
    opt=ADMIN,
    operation_id="getSession",
    summary="Who is signed in",
    tags=["console"],
    response_description="The session of the cookie.",
)
async def own_session(
    request: Request[Any, Any, Any], doorkeeper: ProvidedDoorkeeper
) -> OpenSession:
    """The session of the cookie. A key in the header `authorization` is none: its name is empty."""
    session = doorkeeper.sessions.find(request.scope["headers"])
    return _shown(session) if session else OpenSession(name="", expires=0)


@delete(
    "/admin/session",
    status_code=204,
    opt=FREE,
    operation_id="closeSession",
    summary="Sign a browser out",
    tags=["console"],
    response_description="There is no session any more.",
)
async def close_session(
    request: Request[Any, Any, Any], doorkeeper: ProvidedDoorkeeper
) -> Response[None]:
    """End the session of the cookie, if there is one."""
    if not is_meant(request.scope["headers"]):
        raise Refused(UNMEANT)
    doorkeeper.sessions.close(request.scope["headers"])
    headers = {"set-cookie": cookie(request.scope["headers"], "", 0)}
    return Response(None, status_code=204, headers=headers)


def _shown(session: Session) -> OpenSession:
    return OpenSession(name=session.name, expires=int(session.ends_s))
