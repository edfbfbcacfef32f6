"""``/admin/events``: what a page follows over a real WebSocket, and when it may no longer."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from adapters.keyring import Keyring
from server.console.feed import MOST_WATCHED
from server.console.jobs import Jobs
from server.http.unread import Unread
from server.routes.events import REVOKED
from server.settings import ServerSettings
from tests.conftest import Live, LiveServer
from tests.fakes import card
from tests.records import make_run, measure
from tests.waiting import PATIENCE_S
from training.runs import EventLog


def address(server: Live) -> str:
    return server.serving.base_url.replace("http", "ws") + "/admin/events"


def signed_in(server: Live, key: str) -> dict[str, str]:
    """The cookie of a browser that showed ``key``."""
    answer = httpx.post(f"{server.serving.base_url}/admin/session", json={"key": key})
    return {"cookie": answer.headers["set-cookie"].partition(";")[0]}


@contextmanager
def page(server: Live, **headers: str) -> Iterator[ClientConnection]:
    """A page of the server's own, signed in by its link unless ``headers`` say otherwise."""
    headers = headers or signed_in(server, server.serving.token)
    origin: Any = server.serving.base_url
    with connect(address(server), origin=origin, additional_headers=headers) as socket:
        yield socket


def ask(socket: ClientConnection, **command: Any) -> None:
    socket.send(json.dumps(command))


def heard(socket: ClientConnection) -> dict[str, Any]:
    return json.loads(socket.recv(timeout=PATIENCE_S))


def watch_changes(socket: ClientConnection) -> None:
    """Ask to be told of lists, and take the first news, which names all of them."""
    ask(socket, watch="changes")
    assert heard(socket) == {
        "type": "changed",
        "what": ["models", "runs", "jobs", "datasets", "sweeps"],
    }


def handshake(key: str) -> bytes:
    """What opens a page's socket (RFC 6455, section 4.1)."""
    return (
        "GET /admin/events HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n"
        "upgrade: websocket\r\nsec-websocket-version: 13\r\n"
        f"sec-websocket-key: {'A' * 22}==\r\nauthorization: Bearer {key}\r\n\r\n"
    ).encode()


def frame(text: str) -> bytes:
    """A short text as a page sends it: masked, here with zeros (RFC 6455, section 5.2)."""
    assert len(text) < 126
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()


def hear_out(socket: ClientConnection) -> None:
    while True:
        heard(socket)


def test_a_page_that_reads_nothing_is_given_up(
    live: LiveServer, settings: ServerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would keep its connection, and whoever waits to tell it more, for as long as it stays."""
    lost = threading.Event()
    monkeypatch.setattr(Unread, "forget", lambda _: lost.set())
    run = make_run(settings.home.runs)
    run.log_path.write_bytes((b"x" * 99 + b"\n") * 200_000)
    with live(send_timeout_s=0.1) as server:
        port = int(server.serving.base_url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(handshake(server.serving.token))
            assert connection.recv(12) == b"HTTP/1.1 101"
            connection.sendall(frame(json.dumps({"watch": "text", "source": "run", "id": run.id})))

            assert lost.wait(PATIENCE_S)


def test_a_run_is_replayed_from_a_number_and_goes_on(
    live: LiveServer, settings: ServerSettings
) -> None:
    """No event twice, none left out; a server that starts again goes on where the page was."""
    run = make_run(settings.home.runs)
    measure(run, steps=1200)
    seen: list[int] = []
    with live() as server, page(server) as socket:
        ask(socket, watch="run", run=run.id, after=3)
        while len(seen) < 1198:
            news = heard(socket)
            seen += [event["seq"] for event in news["events"]]
        assert news["status"]["state"] == "stopped"
    log = EventLog(run.events_path)
    log.append("train", 1201, loss=1.0)
    log.close()
    with live() as server, page(server) as socket:
        ask(socket, watch="run", run=run.id, after=seen[-1])
        (event,) = heard(socket)["events"]
    assert (event["loss"], event["step"]) == (1.0, 1201)
    assert [*seen, event["seq"]] == list(range(4, 1203))


def test_a_job_is_followed_to_its_end(live: LiveServer, settings: ServerSettings) -> None:
    """As it stands, with what it tells of itself, and no longer once it has ended."""
    run = make_run(settings.home.runs, state="running")
    with live() as server, page(server) as socket, run.held():
        job = Jobs(settings.home).start("merge", "cat → x", ["runs", "watch", run.id])
        ask(socket, watch="job", job=job.id)
        first = heard(socket)
        told = {"stage": "merging", "subject": "cat", "done": 3, "total": 4, "share": 0.375}
        (job.directory / "progress").write_text(json.dumps(told))
        news = [first]
        while news[-1]["job"]["progress"] is None:
            news.append(heard(socket))
        job.cancel()
        while news[-1]["job"]["state"] == "running":
            news.append(heard(socket))
        ask(socket, watch="job", job="20260101000000-00000000")
        assert heard(socket)["type"] == "error"

    assert {each["type"] for each in news} == {"job"}
    assert (first["job"]["state"], first["job"]["subject"]) == ("running", "cat → x")
    assert told in [each["job"]["progress"] for each in news]
    assert (news[-1]["job"]["state"], news[-1]["job"]["progress"]) == ("cancelled", None)


def test_lists_that_change_are_named(live: LiveServer, settings: ServerSettings) -> None:
    """A page asks for those again, and for no others."""
    with live() as server, page(server) as socket:
        watch_changes(socket)
        make_run(settings.home.runs)
        assert heard(socket) == {"type": "changed", "what": ["runs"]}


def test_a_page_that_asked_before_it_watched_misses_no_change(live: LiveServer) -> None:
    """What has come between its lists and its watching is in those it is told to ask for."""
    with live() as server, page(server) as socket:
        server.engine.cards.append(card("late", "base"))
        ask(socket, watch="changes")
        assert "models" in heard(socket)["what"]


def test_a_page_that_asks_anew_misses_no_change(live: LiveServer, settings: ServerSettings) -> None:
    """What changed between its forgetting all and its asking again is named."""
    with live() as server, page(server) as socket:
        watch_changes(socket)
        ask(socket, watch="nothing")
        ask(socket, watch="run", run="none")
        assert heard(socket)["type"] == "error"  # so everything has been forgotten
        make_run(settings.home.runs)
        ask(socket, watch="changes")
        assert heard(socket) == {"type": "changed", "what": ["runs"]}


def test_a_served_model_that_changes_is_named(live: LiveServer) -> None:
    """Also where the registry has not changed: one is being loaded, or found to be broken."""
    with live() as server, page(server) as socket:
        watch_changes(socket)
        server.engine.cards.append(card("late", "base"))
        assert heard(socket) == {"type": "changed", "what": ["models"]}


def test_the_servers_log_is_followed(live: LiveServer) -> None:
    """Ordinary news of ours and everybody's warnings, with a traceback where there is one."""
    with live() as server, page(server) as socket:
        ask(socket, watch="log", after=10**9)
        ask(socket, watch="log")
        logging.getLogger("server.test").info("news")
        logging.getLogger("elsewhere").error("broken", exc_info=ValueError("<b>"))
        lines: list[dict[str, Any]] = []
        while not lines or lines[-1]["logger"] != "elsewhere":
            lines += heard(socket)["lines"]
        listed = httpx.get(
            f"{server.serving.base_url}/admin/logs",
            headers={"authorization": f"Bearer {server.serving.token}"},
        ).json()
    assert "news" in [line["text"] for line in lines if line["level"] == "info"]
    assert lines[-1]["level"] == "error"
    assert "ValueError: <b>" in lines[-1]["text"]
    assert lines[-1] in listed["data"]


def test_the_text_of_a_run_is_followed(live: LiveServer, settings: ServerSettings) -> None:
    """From a byte on, in whole lines."""
    run = make_run(settings.home.runs)
    run.log("first")
    with live() as server, page(server) as socket:
        ask(socket, watch="text", source="run", id=run.id, after=0)
        first = heard(socket)
        run.log("second")
        second = heard(socket)
    assert first["text"].endswith("first\n")
    assert second["text"].endswith("second\n")
    assert second["next"] == run.log_path.stat().st_size


@pytest.mark.parametrize(
    "command",
    ['{"watch": "run", "run": "../x"}', '{"watch": "all"}', "no json", '{"watch": "text"}'],
)
def test_what_cannot_be_had_is_said_and_the_rest_goes_on(live: LiveServer, command: str) -> None:
    """The socket stays open."""
    with live() as server, page(server) as socket:
        socket.send(command)
        assert heard(socket)["type"] == "error"
        logging.getLogger("server").info("news")
        ask(socket, watch="log")
        assert heard(socket)["type"] == "log"


def test_a_page_watches_only_so_much(live: LiveServer, settings: ServerSettings) -> None:
    """Each thing is looked at again and again."""
    runs = [make_run(settings.home.runs, adapter=f"a{index}") for index in range(MOST_WATCHED + 1)]
    with live() as server, page(server) as socket:
        for run in runs:
            ask(socket, watch="run", run=run.id)
        while (news := heard(socket))["type"] != "error":
            assert news["type"] == "run"
        assert str(MOST_WATCHED) in news["message"]


def test_nobody_else_gets_in(live: LiveServer) -> None:
    """Without a sign-in, with a key for inference, or from a page of another origin."""
    with live(api_key="inference") as server:
        cookie = signed_in(server, server.serving.token)
        attempts: list[tuple[Any, dict[str, str]]] = [
            (server.serving.base_url, {}),
            (server.serving.base_url, {"authorization": "Bearer inference"}),
            ("http://attacker.example", cookie),
            ("null", cookie),
        ]
        for origin, headers in attempts:
            with pytest.raises(InvalidStatus) as refused:
                connect(address(server), origin=origin, additional_headers=headers)
            assert refused.value.response.status_code == 403


@pytest.mark.parametrize("how", ["key", "session"])
def test_a_revoked_page_is_shut_out(live: LiveServer, settings: ServerSettings, how: str) -> None:
    """Whether its key goes or it signs out, the open socket is closed."""
    secret = Keyring(settings.home.keys).create("ops", "admin")
    with live() as server:
        cookie = signed_in(server, secret)
        with page(server, **cookie) as socket:
            logging.getLogger("server").info("news")
            ask(socket, watch="log")
            assert heard(socket)["type"] == "log"
            if how == "key":
                Keyring(settings.home.keys).revoke("ops")
            else:
                httpx.delete(
                    f"{server.serving.base_url}/admin/session",
                    headers=cookie | {"x-lccc-csrf": "1"},
                )
            with pytest.raises(ConnectionClosed) as closed:
                hear_out(socket)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == REVOKED
