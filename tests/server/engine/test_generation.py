"""What a reader of a generation gets: everything, in order, whenever it comes for it."""

from __future__ import annotations

import asyncio

import pytest

from server.engine.generation import Mailbox
from server.engine.types import Delta

pytestmark = pytest.mark.anyio


async def test_what_was_put_is_taken_in_order() -> None:
    """Before anyone asks, and while someone waits."""
    mailbox = Mailbox()
    mailbox.put(Delta("a", 1))
    mailbox.put(Delta("b", 1))
    taken = [await mailbox.get(), await mailbox.get()]
    waiting = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    assert not waiting.done()
    mailbox.put(Delta("c", 1))
    mailbox.put(Delta("d", 1))
    taken += [await waiting, await mailbox.get()]

    assert [each.text for each in taken if isinstance(each, Delta)] == list("abcd")


async def test_a_reader_that_gives_up_loses_nothing() -> None:
    """Neither what comes later nor what came in the moment in which it gave up."""
    mailbox = Mailbox()
    gave_up = asyncio.create_task(mailbox.get())
    await asyncio.sleep(0)
    mailbox.put(Delta("a", 1))
    gave_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gave_up

    assert await asyncio.wait_for(mailbox.get(), 5) == Delta("a", 1)
