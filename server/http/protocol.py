"""uvicorn's HTTP/1.1 protocol, with deadlines for receiving a request and for sending an answer.

uvicorn waits for ever for a request that has begun, and for what it wrote to be read; clients that
send nothing, or a byte a minute, or that stop reading, would hold their connections (and file
descriptors) for as long as they like.
It also answers what is no HTTP in plain text; here that is OpenAI's error object, too.
"""

from __future__ import annotations

import asyncio

import h11
import msgspec
from uvicorn.protocols.http.h11_impl import H11Protocol

from server.errors import Problem
from server.http.gate import new_request_id
from server.http.unread import ReadOrGivenUp


class DeadlineProtocol(ReadOrGivenUp, H11Protocol):
    """Closes connections whose request does not arrive in time, or whose answer is not read.

    ``header_timeout_s`` runs from the connection, or from the first byte of a further request;
    ``body_timeout_s`` from the end of the header; ``send_timeout_s`` while nothing is read of an
    answer. Idle kept-alive connections are uvicorn's business.
    """

    header_timeout_s = 10.0
    body_timeout_s = 60.0

    _deadline: asyncio.TimerHandle | None = None
    _awaited: object = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Expect a header."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Expect the rest, if this was not all."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Expect the rest of what a pipelining client has already begun."""
        super().on_response_complete()
        self.unread.watch()
        if self.conn.trailing_data[0]:
            self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP in the same shape as everything else."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # an answer has begun: nothing more can be said
            return
        body = msgspec.json.encode(Problem(status=400, message=msg).envelope)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", new_request_id().encode()),
            (b"openai-processing-ms", b"0"),
            (b"connection", b"close"),
        ]
        events = (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=body),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event))
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing more."""
        self._expect(None, 0)
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is h11.IDLE:
            self._expect(h11.IDLE, self.header_timeout_s)
        elif self.conn.their_state is h11.SEND_BODY:
            self._expect(h11.SEND_BODY, self.body_timeout_s)
        else:
            self._expect(None, 0)

    def _expect(self, awaited: object, timeout_s: float) -> None:
        """One deadline for each thing awaited; more bytes of the same do not extend it."""
        if awaited is self._awaited:
            return
        self._awaited = awaited
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if awaited is not None:
            self._deadline = self.loop.call_later(timeout_s, self.transport.abort)


def with_deadlines(
    header_timeout_s: float, body_timeout_s: float, send_timeout_s: float
) -> type[DeadlineProtocol]:
    """The protocol class with these deadlines; uvicorn makes the instances itself."""
    limits = {
        "header_timeout_s": header_timeout_s,
        "body_timeout_s": body_timeout_s,
        "send_timeout_s": send_timeout_s,
    }
    return type("DeadlineProtocol", (DeadlineProtocol,), limits)
