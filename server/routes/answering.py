"""What the generating endpoints share: body, answer, headers, and clients that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

from litestar import Request, Response
from litestar.exceptions import InternalServerException
from litestar.types import Receive

from server.engine.types import Generation, ModelCard
from server.errors import ClientGone
from server.http.sse import EventStream
from server.replies.choices import abort
from server.replies.reply import Reply
from server.settings import ServerSettings
from server.wire.parameters import CommonParameters

_T = TypeVar("_T")


async def body_of(request: Request[Any, Any, Any]) -> bytes:
    """The whole body.

    Raises:
        ClientGone: the client hung up.
    """
    try:
        return await request.body()
    except InternalServerException as error:  # Litestar's word for a client that hung up
        raise ClientGone from error


async def respond(
    request: Request[Any, Any, Any],
    settings: ServerSettings,
    asked: CommonParameters,
    reply: Reply[Any],
    headers: Mapping[str, str],
) -> Response[Any]:
    """All at once or as a stream; when the client has left, nothing goes on."""
    end = partial(abort, reply.answer.generations)
    if asked.stream:
        return EventStream(
            reply.frames(),
            close=end,
            headers=dict(headers),
            ping_interval_s=settings.ping_interval_s,
            send_timeout_s=settings.send_timeout_s,
        )
    try:
        whole = await unless_gone(reply.whole(), request.receive)
    finally:
        end()
    return Response(whole, headers=dict(headers))


def headers_of(card: ModelCard, generation: Generation, ignored: tuple[str, ...]) -> dict[str, str]:
    """Which adapter answered, and which parameters were not understood."""
    headers = ignored_header(ignored)
    if card.parent is not None:
        headers["x-adapter-id"] = quote(card.name, safe="/:@ ")
        headers["x-adapter-version"] = generation.digest[:12]
    return headers


def ignored_header(ignored: tuple[str, ...]) -> dict[str, str]:
    """The header that names them, if there are any."""
    return {"x-ignored-parameters": ", ".join(ignored)} if ignored else {}


async def unless_gone(work: Coroutine[Any, Any, _T], receive: Receive) -> _T:
    """The result of ``work``, given up as soon as the client closes the connection.

    Raises:
        ClientGone: it did.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnection(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


async def _disconnection(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
