"""Too few file descriptors: said once a minute, and not for every connection that waits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from adapters.storage import PASSING

logger = logging.getLogger(__name__)

_SAID_AGAIN_S = 60.0


class Shortage:
    """An exception handler of an event loop (:meth:`asyncio.loop.set_exception_handler`).

    asyncio stops accepting for a second where it cannot, and shows a traceback each time it tries.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_s = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say what is lacking; all else is reported as ever."""
        error = context.get("exception")
        is_lack = isinstance(error, OSError) and error.errno in PASSING
        if not (is_lack and "accept" in context["message"]):
            loop.default_exception_handler(context)
        elif self._clock() - self._said_s >= _SAID_AGAIN_S:
            self._said_s = self._clock()
            logger.error(
                "No new connection can be accepted: %s. Clients wait until one is closed; to serve "
                "more at once, raise the limit of open files (ulimit -n) and start again.",
                error,
            )
