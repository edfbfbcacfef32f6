"""``OPTIONS``: which methods a path answers to.

Litestar answers by itself, but with the methods of the first handler of a path alone.
"""

from __future__ import annotations

from http import HTTPStatus

from litestar.datastructures.headers import MutableScopeHeaders
from litestar.enums import ScopeType
from litestar.types import Message, Scope

from server.errors import allowed_methods


async def list_all_methods(message: Message, scope: Scope) -> None:
    """Before an answer is sent: put right what Litestar's own says. An application's hook."""
    if (
        scope["type"] == ScopeType.HTTP
        and scope["method"] == "OPTIONS"
        and message["type"] == "http.response.start"
        and message["status"] == HTTPStatus.NO_CONTENT
    ):
        methods = allowed_methods(scope["litestar_app"], scope["path"])
        MutableScopeHeaders.from_message(message)["allow"] = ", ".join(methods)
