"""The thread of the tokenizer, and how much text may wait for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from server.engine.errors import QueueFull

# All that may wait together: seconds of work at worst, and far more than usual prompts have.
MOST_WAITING_BYTES = 4 << 20
_LEAST_S, _MOST_S = 1.0, 60.0

_T = TypeVar("_T")


class Encoder:
    """Does one text after the other, since the tokenizer is not safe in two threads at once.

    Texts of ``most_bytes`` may wait together; one alone may have more. Lives on the event loop.
    """

    def __init__(self, most_bytes: int = MOST_WAITING_BYTES) -> None:
        self._most_bytes = most_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._waiting_bytes = 0
        self._waiting = 0
        self._done_bytes, self._spent_s = 0, 0.0  # written by the thread alone

    @property
    def waiting_bytes(self) -> int:
        return self._waiting_bytes

    async def run(self, size: int, work: Callable[[], _T]) -> _T:
        """What ``work`` on ``size`` bytes of text returns; not begun once this is cancelled.

        Raises:
            QueueFull: with what waits it would be more than may.
        """
        if self._waiting_bytes and self._waiting_bytes + size > self._most_bytes:
            raise QueueFull(self._waiting, self._retry_after_s(), waiting_bytes=self._waiting_bytes)
        loop = asyncio.get_running_loop()

        def leave(_: Future[Any]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody counts any more
                loop.call_soon_threadsafe(self._leave, size)

        future = self._thread.submit(self._timed, size, work)
        self._waiting += 1
        self._waiting_bytes += size
        # Of the thread's work, not of who waits: what has begun goes on when its client leaves.
        future.add_done_callback(leave)
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Take no more; what waits is still done."""
        self._thread.shutdown(wait=False)

    def _leave(self, size: int) -> None:
        self._waiting -= 1
        self._waiting_bytes -= size

    def _timed(self, size: int, work: Callable[[], _T]) -> _T:
        begun_s = time.perf_counter()
        try:
            return work()
        finally:
            self._spent_s += time.perf_counter() - begun_s
            self._done_bytes += size

    def _retry_after_s(self) -> float:
        """When what waits now will be done, at the speed so far."""
        expected_s = self._waiting_bytes * self._spent_s / max(1, self._done_bytes)
        return min(max(expected_s, _LEAST_S), _MOST_S)
