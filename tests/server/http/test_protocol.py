"""Connections that hold back their request, or do not read their answer."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from server.http.unread import Unread
from tests.conftest import Live, LiveServer
from tests.fakes import Script
from tests.waiting import PATIENCE_S

BODY = json.dumps({"model": "base", "messages": [{"role": "user", "content": "hi"}]}).encode()
HEAD = (
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(BODY)
)


@contextmanager
def connected(server: Live) -> Iterator[socket.socket]:
    port = int(server.serving.base_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
        yield connection


def is_closed(connection: socket.socket) -> bool:
    """Wait for the server to close the connection without a word."""
    try:
        return connection.recv(1000) == b""
    except ConnectionResetError:
        return True


def received(connection: socket.socket) -> bytes:
    """All that the server sends until it closes the connection."""
    pieces = []
    try:
        while piece := connection.recv(10_000):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(pieces)


def test_silent_and_slow_clients_are_disconnected(live: LiveServer) -> None:
    """Nothing sent, half a header, half a body: each is given up after its deadline."""
    for sent in (b"", b"POST /v1/chat/comp", HEAD, HEAD + BODY[:5]):
        with (
            live(header_timeout_s=0.1, body_timeout_s=0.1) as server,
            connected(server) as connection,
        ):
            connection.sendall(sent)

            assert is_closed(connection)
            assert server.engine.requests == []


def test_more_bytes_do_not_move_the_deadline(live: LiveServer) -> None:
    """A byte now and then does not hold a connection for ever."""
    with live(header_timeout_s=0.3) as server, connected(server) as connection:
        connection.settimeout(0.05)
        is_given_up = False
        for _ in range(400):
            try:
                connection.sendall(b"G")
                is_given_up = connection.recv(1000) == b""
            except TimeoutError:
                continue
            except (ConnectionResetError, BrokenPipeError):
                is_given_up = True
            if is_given_up:
                break

    assert is_given_up


def test_a_long_reply_is_not_cut(live: LiveServer) -> None:
    """The deadlines are for requests: a reply may take longer, and a second request may follow."""
    script = Script(pieces=("a", "b"), delay_s=0.2)
    with (
        live(script, header_timeout_s=0.1, body_timeout_s=0.1) as server,
        connected(server) as connection,
    ):
        for _ in range(2):
            connection.sendall(HEAD + BODY)
            received = b""
            while not received.endswith(b"}}}"):
                received += connection.recv(10_000)
            assert received.startswith(b"HTTP/1.1 200 OK")

        assert len(server.engine.requests) == 2


@pytest.mark.parametrize("is_stream", [False, True])
def test_an_answer_that_nobody_reads_is_given_up(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch, is_stream: bool
) -> None:
    """Its connection is closed without waiting for ever for the client to take the rest of it."""
    lost = threading.Event()
    monkeypatch.setattr(Unread, "forget", lambda _: lost.set())
    script = Script(pieces=("x" * 1_000_000,) * 40)
    body = json.dumps(json.loads(BODY) | {"stream": is_stream}).encode()
    with live(script, send_timeout_s=0.1) as server, connected(server) as connection:
        head = HEAD.partition(b"content-length")[0] + b"connection: close\r\n"
        connection.sendall(head + b"content-length: %d\r\n\r\n%b" % (len(body), body))

        assert lost.wait(PATIENCE_S)
        assert len(received(connection)) < 40_000_000


def test_pipelined_requests_are_answered_in_turn(live: LiveServer) -> None:
    """Two whole requests and the beginning of a third, in one packet."""
    request = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    with live(header_timeout_s=0.1) as server, connected(server) as connection:
        connection.sendall(request * 2 + b"GET /hea")
        answers = received(connection)

    assert answers.count(b'{"status":"ok"}') == 2


def test_hanging_up_within_a_body_is_no_failure_of_ours(
    live: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is logged as an error, nothing reaches the engine, and others are served."""
    with live() as server:
        with connected(server) as connection:
            connection.sendall(HEAD + BODY[:5])
        with connected(server) as connection:
            connection.sendall(HEAD + BODY)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")

    assert len(server.engine.requests) == 1
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\nconnection: close\r\n\r\n",  # h11 takes it for 1.1
        b"GET /health HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 200_000,
    ],
    ids=["bytes", "version", "length", "huge header"],
)
def test_what_is_no_http_has_the_error_shape_too(live: LiveServer, sent: bytes) -> None:
    """OpenAI's error object with an id, and the connection is closed; nothing is collected."""
    with live() as server, connected(server) as connection:
        connection.sendall(sent)
        head, _, body = received(connection).partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nx-request-id: req_" in head
    assert list(json.loads(body)["error"]) == ["message", "type", "param", "code"]


def test_nonsense_after_the_answer_is_cut_off(
    live: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A body that turns out broken when its request has been answered: no second answer to it."""
    head = b"POST /nowhere HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    with live() as server, connected(server) as connection:
        connection.sendall(head)
        answer = b""
        while not answer.endswith(b"}}"):
            answer += connection.recv(10_000)
        connection.sendall(b"no length\r\n")

        assert answer.startswith(b"HTTP/1.1 404 ")
        assert received(connection) == b""
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
