"""Frames of replies: what comes together is sent together, and nothing else about it differs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from server.engine.errors import GenerationFailed
from server.engine.generation import LocalGeneration, Mailbox
from server.engine.types import Delta, Event, Finished, Piece
from server.replies.chat import ChatReply
from server.replies.reply import MOST_AT_ONCE, Answer


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Streamed:
    """A chat completion's stream of one reply, whose events a test puts into ``mailbox``."""

    def __init__(self) -> None:
        self.mailbox = Mailbox()
        generation = LocalGeneration("reply-1", "digest", self.mailbox, lambda: None)
        answer = Answer(
            id="chatcmpl-1",
            model="poet",
            generations=[generation],
            piece=lambda _: Piece(b""),
            created=0,
        )
        self.frames = aiter(ChatReply(answer).frames())

    def put(self, events: Sequence[Event | GenerationFailed]) -> None:
        for event in events:
            self.mailbox.put(event)

    async def rest(self) -> list[bytes]:
        """All that is still sent."""
        return [sent async for sent in self.frames]


def texts(count: int) -> list[Event]:
    return [Delta(f"{number},", 1) for number in range(count)]


async def one_by_one(events: Sequence[Event | GenerationFailed]) -> list[bytes]:
    """What is sent where each event comes once the one before it is sent."""
    streamed = Streamed()
    sent = []
    for event in events:
        following = asyncio.ensure_future(anext(streamed.frames))
        await asyncio.sleep(0)
        streamed.put([event])
        sent.append(await following)
    return [*sent, *await streamed.rest()]


@pytest.mark.anyio
async def test_what_is_at_hand_is_sent_at_once() -> None:
    """A stream that lags sends up to so many events in one, which are the same bytes."""
    events = [*texts(MOST_AT_ONCE + 8), Finished("stop", 3, MOST_AT_ONCE + 8)]
    streamed = Streamed()
    streamed.put(events)

    sent = await streamed.rest()

    assert [each.count(b'"content":"') for each in sent] == [MOST_AT_ONCE + 1, 8]  # and the role
    assert b"".join(sent) == b"".join(await one_by_one(events))


@pytest.mark.anyio
async def test_what_comes_later_is_not_waited_for() -> None:
    """A token is sent as soon as it is there, though the reply goes on."""
    sent = await one_by_one([*texts(3), Finished("length", 3, 3)])

    assert [each.count(b"data: ") for each in sent] == [2, 1, 1, 2]


@pytest.mark.anyio
async def test_what_came_before_a_failure_is_sent_with_it() -> None:
    """Text that was at hand is not lost; the error and the end follow it."""
    streamed = Streamed()
    streamed.put([*texts(2), GenerationFailed("it broke")])

    (sent,) = await streamed.rest()

    assert sent.index(b'"content":"1,"') < sent.index(b'"error":') < sent.index(b"data: [DONE]")
