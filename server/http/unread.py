"""What was written for a client that does not read it, and for how long that is waited for.

asyncio closes a connection once all that was written is sent. A client that stops reading, but
stays, would keep its connection for ever, with its file descriptor, what is buffered, and whoever
waits to write more.
"""

from __future__ import annotations

import asyncio
from typing import cast


class Unread:
    """The unsent bytes of one ``transport``.

    After ``patience_s`` seconds in which none of them was sent it is aborted, if it is being closed
    or someone waits to write: then nothing is added that could hide that they get fewer.
    """

    def __init__(
        self, transport: asyncio.WriteTransport, loop: asyncio.AbstractEventLoop, patience_s: float
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._patience_s = patience_s
        self._is_paused = False
        self._left: int | None = None  # so many there were when it was last looked at
        self._timer: asyncio.TimerHandle | None = None

    def pause(self) -> None:
        """Too much is unsent: who writes has to wait."""
        self._is_paused = True
        self.watch()

    def resume(self) -> None:
        """There is room to write again."""
        self._is_paused = False

    def watch(self) -> None:
        """Look again and again from now on, until all is sent."""
        if self._timer is None:
            self._left = None
            self._look()

    def forget(self) -> None:
        """The connection is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        left = self._transport.get_write_buffer_size()
        if not left:
            return
        is_final = self._is_paused or self._transport.is_closing()
        if is_final and self._left is not None and left >= self._left:
            self._transport.abort()
            return
        self._left = left if is_final else None
        self._timer = self._loop.call_later(self._patience_s, self._look)


class ReadOrGivenUp(asyncio.Protocol):
    """Stands before a protocol, whose client is given up if it reads nothing for a while."""

    send_timeout_s = 60.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        written = cast("asyncio.WriteTransport", transport)
        self.unread = Unread(written, asyncio.get_running_loop(), self.send_timeout_s)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self.unread.pause()

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self.unread.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self.unread.forget()
        super().connection_lost(exc)
