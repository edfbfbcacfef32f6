"""uvicorn's WebSocket protocol, for pages that stop reading what they are told."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from server.http.unread import ReadOrGivenUp


class PageProtocol(ReadOrGivenUp, WebSocketsSansIOProtocol):
    """Gives a page up that reads nothing for ``send_timeout_s``, though there is something."""

    def keepalive_timeout(self) -> None:
        """It has not answered: the connection is closed, once what is unsent is sent."""
        super().keepalive_timeout()
        self.unread.watch()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """Nobody has more to say, so that it is closed likewise."""
        super().on_task_complete(task)
        self.unread.watch()


def page_protocol(send_timeout_s: float) -> type[PageProtocol]:
    """The protocol class with this timeout; uvicorn makes the instances itself."""
    return type("PageProtocol", (PageProtocol,), {"send_timeout_s": send_timeout_s})
