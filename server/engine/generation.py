"""One running generation as its caller sees it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from server.engine.errors import GenerationFailed
from server.engine.types import Event, Finished

# After these comes nothing.
ENDS = (Finished, GenerationFailed)


class Mailbox:
    """What one reader has not yet taken. A queue of asyncio does more, in twice the time."""

    def __init__(self) -> None:
        self._events: deque[Event | GenerationFailed] = deque()
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: Event | GenerationFailed) -> None:
        """Add ``event``. On the event loop's thread, as all else here."""
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> Event | GenerationFailed:
        """The oldest event, once there is one. Only one may wait at a time."""
        while not self:
            await self.arrival()
        return self.take()

    def __len__(self) -> int:
        return len(self._events)

    def take(self) -> Event | GenerationFailed:
        """The oldest event, which must be there."""
        return self._events.popleft()

    def arrival(self) -> asyncio.Future[None]:
        """Done once there is an event. Only one may wait at a time."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter


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

    @property
    def is_at_hand(self) -> bool:
        return bool(self._mailbox)

    def __aiter__(self) -> LocalGeneration:
        return self

    async def __anext__(self) -> Event:
        if self._is_over:
            raise StopAsyncIteration
        mailbox = self._mailbox
        while not mailbox:  # not its own get: one coroutine less for every token
            await mailbox.arrival()
        event = mailbox.take()
        if isinstance(event, ENDS):
            self._is_over = True
            if isinstance(event, GenerationFailed):
                raise event
        return event

    def __del__(self) -> None:
        self.abort()
