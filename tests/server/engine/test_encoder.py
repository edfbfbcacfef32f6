"""The line before the tokenizer: bounded by its bytes, and left by who is gone."""

from __future__ import annotations

import asyncio
import threading

import pytest

from server.engine.encoder import Encoder
from server.engine.errors import QueueFull
from tests.server.engine.harness import until

pytestmark = pytest.mark.anyio


async def test_the_text_that_waits_is_bounded_and_cancelled_work_is_not_done() -> None:
    """Beyond the bound is refused; what is cancelled while it waits leaves room at once."""
    encoder = Encoder(most_bytes=100)
    held, done = threading.Event(), []
    try:
        first = asyncio.create_task(encoder.run(500, held.wait))  # alone it may be longer
        await until(lambda: encoder.waiting_bytes == 500)
        with pytest.raises(QueueFull, match="500 bytes") as refused:
            await encoder.run(1, lambda: done.append("refused"))
        assert refused.value.retry_after_s >= 1
        first.cancel()  # its thread goes on, so it counts on
        await asyncio.wait([first])
        assert encoder.waiting_bytes == 500
        held.set()
        await until(lambda: encoder.waiting_bytes == 0)

        held.clear()
        busy = asyncio.create_task(encoder.run(40, held.wait))
        gone = asyncio.create_task(encoder.run(60, lambda: done.append("gone")))
        await until(lambda: encoder.waiting_bytes == 100)
        gone.cancel()
        await until(lambda: encoder.waiting_bytes == 40)
        last = asyncio.create_task(encoder.run(60, lambda: done.append("last")))
        await until(lambda: encoder.waiting_bytes == 100)
        held.set()
        await asyncio.gather(busy, last)
        assert done == ["last"]
    finally:
        held.set()
        encoder.close()
