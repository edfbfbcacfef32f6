"""Frames that are made quickly, and a stream whose sends hardly ever wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import pytest

from server.http.sse import EventStream, Template, frame
from server.wire.text import TextChoice, TextCompletion


def completion(text: str, model: str = "poet") -> TextCompletion:
    choice = TextChoice(index=0, text=text)
    return TextCompletion(
        id="a", created=1, model=model, system_fingerprint="fp", choices=[choice], usage=None
    )


@pytest.mark.parametrize("text", ["", "好", 'a"\\\n', "\u2028\x85\x00", "😀", '"text":""'])
def test_a_template_makes_what_a_frame_is(text: str) -> None:
    """Byte for byte, whatever the text and whatever else the frame says."""
    model = 'a "text":"" of \u2029 its own'
    template = Template(completion("", model), b'"text":')

    assert template.filled(text) == frame(completion(text, model))


def test_a_template_needs_a_place_for_its_text() -> None:
    """Else every frame would lack it."""
    with pytest.raises(AssertionError, match="no empty text"):
        Template(completion("x"), b'"text":')


class Client:
    """Takes messages; after the first two nothing more, until it is told to go on."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.is_full = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if len(self.taken) == 2:
            self.is_full.set()
            await self.goes_on.wait()
            await asyncio.sleep(0)  # waits a second time, and for no future
        self.taken.append(message.get("body", b""))

    async def receive(self) -> MutableMapping[str, Any]:
        return await asyncio.Future()  # it never hangs up


def streamed(frames: AsyncIterator[bytes], client: Client, timeout_s: float) -> asyncio.Task[None]:
    stream = EventStream(
        frames,
        close=lambda: client.taken.append(b"closed"),
        headers={},
        ping_interval_s=60.0,
        send_timeout_s=timeout_s,
    )
    scope: Any = {"type": "http", "method": "POST"}
    return asyncio.create_task(stream.send({}, scope, client.receive, client.send))  # type: ignore[arg-type] # as little of ASGI as is used


async def letters() -> AsyncIterator[bytes]:
    for letter in (b"a", b"b", b"c"):
        yield letter


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_a_send_that_waited_goes_on_where_it_was() -> None:
    """Nothing is lost or sent twice when a client is slow for a while."""
    client = Client()
    sending = streamed(letters(), client, timeout_s=60.0)
    await client.is_full.wait()
    client.goes_on.set()
    await sending

    assert client.taken == [b"", b"a", b"b", b"c", b"", b"closed"]


@pytest.mark.anyio
async def test_a_send_that_waits_too_long_ends_the_stream() -> None:
    """The time runs while a send waits; what is sent is told it was cancelled."""
    client = Client()
    await streamed(letters(), client, timeout_s=0.01)

    assert client.taken == [b"", b"a", b"closed"]


@pytest.mark.anyio
async def test_a_send_that_waits_ends_with_its_stream() -> None:
    """Where the stream is cancelled, as when the client hangs up."""
    client = Client()
    sending = streamed(letters(), client, timeout_s=60.0)
    await client.is_full.wait()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    assert client.taken == [b"", b"a", b"closed"]
