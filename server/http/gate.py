"""The outermost layer: a request id and timing on every answer; Host and Origin are checked.

It wraps the whole application, so that it also sees what the router answers by itself.
"""

from __future__ import annotations

import re
import time
import uuid

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPResponseStartEvent, HTTPScope, Message, Receive, Scope, Send

from server.access.origins import HostPolicy
from server.errors import Problem

_POLICY_VIOLATION = 1008
_ACCEPTABLE_ID = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")


class Gate:
    """ASGI middleware around the application."""

    def __init__(self, app: ASGIApp, policy: HostPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.WEBSOCKET:
            if self._policy.refusal("GET", scope["headers"]) is None:
                await self._app(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": ""})
            return
        http = scope
        request_id = _request_id(http)
        http["state"]["request_id"] = request_id
        stamped = _stamping(send, request_id, time.perf_counter())
        if http["method"] == "HEAD":  # GET without its body (RFC 9110, 9.3.2)
            http, stamped = http.copy(), _without_body(stamped)
            http["method"] = "GET"
        refusal = self._policy.refusal(http["method"], http["headers"])
        if refusal is None:
            await self._app(http, receive, stamped)
        else:
            await _send_problem(stamped, refusal)


def _request_id(scope: HTTPScope) -> str:
    """The client's own id where it is one short plain word, else a new one."""
    given = [value for name, value in scope["headers"] if name == b"x-request-id"]
    if len(given) == 1 and _ACCEPTABLE_ID.fullmatch(given[0]):
        return given[0].decode()
    return new_request_id()


def new_request_id() -> str:
    """For a request that brings none."""
    return f"req_{uuid.uuid4().hex}"


def _stamping(send: Send, request_id: str, began_s: float) -> Send:
    async def stamped(message: Message) -> None:
        if message["type"] == "http.response.start":
            elapsed_ms = round(1000 * (time.perf_counter() - began_s))
            message["headers"] = [
                *message["headers"],
                (b"x-request-id", request_id.encode()),
                (b"openai-processing-ms", str(elapsed_ms).encode()),
            ]
        await send(message)

    return stamped


def _without_body(send: Send) -> Send:
    async def bodiless(message: Message) -> None:
        if message["type"] == "http.response.body":
            message["body"] = b""
        await send(message)

    return bodiless


async def _send_problem(send: Send, problem: Problem) -> None:
    body = msgspec.json.encode(problem.envelope)
    headers: list[tuple[bytes, bytes]] = [
        *((name.encode(), value.encode()) for name, value in problem.headers.items()),
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    start: HTTPResponseStartEvent = {
        "type": "http.response.start",
        "status": problem.status,
        "headers": headers,
    }
    await send(start)
    await send({"type": "http.response.body", "body": body, "more_body": False})
