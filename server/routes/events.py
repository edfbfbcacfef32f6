"""``/admin/events``: a page's WebSocket (RFC 6455), on which it says what it wants to follow."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import msgspec
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect

from server.access.doorkeeper import Doorkeeper
from server.access.scopes import ADMIN
from server.console.feed import Feed, encoded
from server.console.jobs import JobNotFound
from server.routes.provided import ProvidedDoorkeeper, ProvidedEngine, ProvidedSources
from server.wire.events import Command, Complaint
from training.errors import RunNotFound

TICK_S = 0.3
REVOKED = 4401  # as HTTP's 401, in the range that RFC 6455 leaves to applications

_decoder = msgspec.json.Decoder(Command)


@websocket("/admin/events", opt=dict(ADMIN))
async def admin_events(
    socket: WebSocket[Any, Any, Any],
    sources: ProvidedSources,
    doorkeeper: ProvidedDoorkeeper,
    engine: ProvidedEngine,
) -> None:
    """Tell a page what it watches, until it leaves or may no longer be told."""
    await socket.accept()
    feed = Feed(sources)
    heard = asyncio.Event()
    hearing = asyncio.create_task(_hear(socket, feed, heard))
    try:
        while not hearing.done():
            if _is_shut(doorkeeper, socket):
                await socket.close(REVOKED, "signed out")
                return
            if engine.is_ready:
                sources.changes.see(engine.models())
            for news in await asyncio.to_thread(lambda: list(feed.news())):
                await socket.send_text(encoded(news))
            await _tick(heard)
    except WebSocketDisconnect:
        pass
    finally:
        hearing.cancel()
        await asyncio.gather(hearing, return_exceptions=True)


async def _hear(socket: WebSocket[Any, Any, Any], feed: Feed, heard: asyncio.Event) -> None:
    """Take what the page asks for, to its end; ``heard`` is set each time."""
    try:
        while True:
            text = await socket.receive_text()
            try:
                await asyncio.to_thread(feed.take, _decoder.decode(text))
            except (RunNotFound, JobNotFound, ValueError) as error:
                await socket.send_text(encoded(Complaint(message=str(error))))
            heard.set()
    except WebSocketDisconnect:
        pass
    finally:
        heard.set()


async def _tick(heard: asyncio.Event) -> None:
    """Until the next look, which comes at once when the page has asked for something."""
    with suppress(TimeoutError):
        await asyncio.wait_for(heard.wait(), TICK_S)
    heard.clear()


def _is_shut(doorkeeper: Doorkeeper, socket: WebSocket[Any, Any, Any]) -> bool:
    """Whether the key or the session that opened the socket is no longer good."""
    return doorkeeper.refusal("admin", socket.scope["headers"]) is not None
