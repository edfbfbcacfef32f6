"""Server-sent events: frames as bytes, and the response that sends them.

The only module that knows sse-starlette. Deliberate differences from its defaults:

1. Lines end with LF alone, and frames arrive encoded, so they pass through it untouched.
2. A blocked send ends the stream after ``send_timeout_s``; a client that stops reading costs only
   itself.
3. Its own reaction to SIGTERM, which would cut every stream, is off: ``server.process`` drains.
4. A clock is set only for a send that has to wait, which hardly any has; it takes longer than
   making the frame.
5. Its DEBUG log would contain what users write, so its logger never goes below INFO.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, MutableMapping
from typing import Any

import msgspec
from litestar import Litestar, Request, Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send
from sse_starlette.sse import AppStatus, EventSourceResponse, SendTimeoutError

logger = logging.getLogger(__name__)

AnySend = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MEDIA_TYPE = "text/event-stream"
DONE = b"data: [DONE]\n\n"

_LINE_ENDS = (
    ("\u0085".encode(), b"\\u0085"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)
_encode = msgspec.json.Encoder().encode


def frame(value: object, event: str = "") -> bytes:
    """``value`` as one event, in JSON; ``event`` is what the stream calls it, if anything.

    Unicode's other line ends are escaped: many clients split a stream with ``str.splitlines``,
    which would cut the event in two there.
    """
    name = f"event: {event}\n" if event else ""
    return name.encode() + b"data: " + _escaped(_encode(value)) + b"\n\n"


class Template:
    """A frame that is sent again and again with another text in it.

    ``value`` has the empty text where that belongs; ``before`` is the JSON in front of it, which
    must be there once.
    """

    def __init__(self, value: object, before: bytes) -> None:
        head, empty, tail = frame(value).partition(before + b'""')
        assert empty, f"no empty text follows {before!r}"
        self._head, self._tail = head + before, tail

    def filled(self, text: str) -> bytes:
        """What :func:`frame` makes of the value with ``text``."""
        return self._head + _escaped(_encode(text)) + self._tail


def _escaped(encoded: bytes) -> bytes:
    for line_end, escape in _LINE_ENDS:
        encoded = encoded.replace(line_end, escape)
    return encoded


def leave_shutdown_to_us() -> None:
    """Switch off what sse-starlette does for the whole process (differences 3 and 5)."""
    AppStatus.disable_automatic_graceful_drain()
    library = logging.getLogger("sse_starlette")
    library.setLevel(max(logging.INFO, library.level))


class EventStream(Response[Any]):
    """A Litestar response that sends ``frames``; ``close`` is called once, however it ends."""

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        *,
        close: Callable[[], None],
        headers: dict[str, str],
        ping_interval_s: float,
        send_timeout_s: float,
    ) -> None:
        super().__init__(content=None, media_type=MEDIA_TYPE, headers=headers)
        self._frames = frames
        self._close = close
        self._ping_interval_s = ping_interval_s
        self._send_timeout_s = send_timeout_s

    def to_asgi_response(
        self,
        app: Litestar | None,  # noqa: ARG002  # Litestar's signature
        request: Request[Any, Any, Any],  # noqa: ARG002  # Litestar's signature
        *,
        headers: dict[str, str] | None = None,
        **_: Any,
    ) -> ASGIResponse:
        """The response to run, with the headers of outer layers under our own."""
        return _EventSender(self, {**(headers or {}), **self.headers})

    async def send(
        self, headers: dict[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Send all frames, unless the client leaves; then close what feeds them."""
        response = _Sender(
            self._frames,
            headers=headers,
            sep="\n",
            ping=self._ping_interval_s,
            send_timeout=self._send_timeout_s,
        )
        try:
            await response(scope, receive, send)  # type: ignore[arg-type]  # same ASGI, own names
        except SendTimeoutError:
            logger.warning("a client stopped reading its stream and was cut off")
        finally:
            self._close()


class _Sender(EventSourceResponse):
    """Sets the clock only for a send that does not end at once: hardly any does not."""

    async def _send_with_timeout(self, send: AnySend, message: MutableMapping[str, Any]) -> None:
        """Send, as the library does; should it call this otherwise one day, it does so itself."""
        sending = send(message).__await__()
        try:
            waits_for = next(sending)
        except StopIteration:
            return
        await super()._send_with_timeout(lambda _: _Rest(sending, waits_for), message)


class _Rest:
    """Awaits what is left of ``begun``, which has been asked once and said what it waits for."""

    def __init__(self, begun: Generator[Any, None, None], waits_for: object) -> None:
        self._begun = begun
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            error = None
            try:
                yield waits_for
            except BaseException as thrown:  # noqa: BLE001 - a cancellation is for the one begun
                error = thrown
            try:
                waits_for = next(self._begun) if error is None else self._begun.throw(error)
            except StopIteration:
                return


class _EventSender(ASGIResponse):
    """Litestar's last form of a response; all it does is to run the stream."""

    def __init__(self, stream: EventStream, headers: dict[str, str]) -> None:
        super().__init__(media_type=MEDIA_TYPE)
        self._stream = stream
        self._stream_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stream.send(self._stream_headers, scope, receive, send)
