"""One running generation as its caller sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from server.engine.errors import GenerationFailed
from server.engine.types import Event, Finished

Mailbox = asyncio.Queue[Event | GenerationFailed]


class LocalGeneration:
    """Iterates over what the engine puts into ``mailbox``, once.

    Dropping it before its end aborts it: nobody is left to read the reply.
    """

    def __init__(self, id: str, digest: str, mailbox: Mailbox, abort: Callable[[], None]) -> None:  # noqa: A002 - the protocol's name
        self.id = id
        self.digest = digest
        self._mailbox = mailbox
        self._abort = abort
        self._is_over = False

    def abort(self) -> None:
        """End it within one step; ``Finished("abort")`` follows unless it ended by itself first."""
        if not self._is_over:
            self._abort()

    def __aiter__(self) -> LocalGeneration:
        return self

    async def __anext__(self) -> Event:
        if self._is_over:
            raise StopAsyncIteration
        event = await self._mailbox.get()
        self._is_over = isinstance(event, Finished | GenerationFailed)
        if isinstance(event, GenerationFailed):
            raise event
        return event

    def __del__(self) -> None:
        self.abort()
