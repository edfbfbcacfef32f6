"""uvicorn's WebSocket protocol, for pages that stop reading what they are told."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from server.unread import Unread


class PageProtocol(WebSocketsSansIOProtocol):
    """Gives a page up that reads nothing for ``send_timeout_s``, though there is something."""

    send_timeout_s = 60.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        self._unread = Unread(self.transport, self.loop, self.send_timeout_s)

    def pause_writing(self) -> None:
        """Wait for the page to read."""
        super().pause_writing()
        self._unread.pause()

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._unread.resume()

    def keepalive_timeout(self) -> None:
        """It has not answered: the connection is closed, once what is unsent is sent."""
        super().keepalive_timeout()
        self._unread.watch()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Nobody has more to say, so that it is closed likewise."""
        super().on_task_complete(task)
        self._unread.watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._unread.forget()
        super().connection_lost(exc)


def page_protocol(send_timeout_s: float) -> type[PageProtocol]:
    """The protocol class with this timeout; uvicorn makes the instances itself."""
    return type("PageProtocol", (PageProtocol,), {"send_timeout_s": send_timeout_s})
