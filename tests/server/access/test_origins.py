"""Which requests are let in: Host, Origin, and the id that every answer carries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from adapters.home import Home
from server.access.origins import HostPolicy, host_name
from server.settings import ServerSettings

ME = (b"host", b"127.0.0.1:8000")


def refused(*headers: tuple[bytes, bytes], method: str = "POST", **settings: Any) -> int | None:
    policy = HostPolicy(ServerSettings(home=Home(Path("/nowhere")), **settings))
    problem = policy.refusal(method, headers)
    return None if problem is None else problem.status


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:8000",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]",
        "[::1]:8000",
        " localhost ",
    ],
)
def test_loopback_names_are_ours(host: str) -> None:
    """In any case, with or without a port."""
    assert refused((b"host", host.encode())) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "evil.example:8000",
        "localhost.",
        "localhost/x?",
        "127.0.0.1.nip.io",
        "127.0.0.2",
        "192.168.1.5",
        "0.0.0.0",
        "[::2]",
        "[::1",
        "",
        "*",
    ],
)
def test_other_names_are_not(host: str) -> None:
    """A page that points its own name at 127.0.0.1 reaches nothing."""
    expected = None if host == "[::1" else 421
    assert refused((b"host", host.encode())) == expected


@pytest.mark.parametrize("hosts", [[], [ME, ME], [ME, (b"host", b"evil.example")]])
def test_there_is_exactly_one_host(hosts: list[tuple[bytes, bytes]]) -> None:
    """Parsers disagree about none or two, so neither is served."""
    assert refused(*hosts) == 400


def test_configured_names_are_allowed() -> None:
    """``allowed_hosts``, in any case, and the host it is bound to."""
    chat = (b"host", b"Chat.Example:443")

    assert refused(chat) == 421
    assert refused(chat, allowed_hosts=("chat.example",)) is None
    assert refused((b"host", b"10.0.0.7"), host="10.0.0.7") is None


def test_beyond_loopback_any_address_is_allowed_but_no_name() -> None:
    """An address in a browser's bar cannot be an attacker's name."""
    assert refused((b"host", b"192.168.1.5:8000"), host="0.0.0.0") is None
    assert refused((b"host", b"[fe80::1]:8000"), host="::") is None
    assert refused((b"host", b"evil.example"), host="0.0.0.0") == 421


def test_the_name_in_a_host_header() -> None:
    """Lower-case, without port and brackets."""
    assert [host_name(host) for host in ("A.b:1", "[FE80::1]:2", "c", "")] == [
        "a.b",
        "fe80::1",
        "c",
        "",
    ]


@pytest.mark.parametrize(
    ("headers", "method", "expected"),
    [
        ([], "POST", None),
        ([(b"origin", b"http://127.0.0.1:8000")], "POST", None),
        ([(b"origin", b"HTTP://127.0.0.1:8000")], "POST", None),
        ([(b"origin", b"https://evil.example")], "POST", 403),
        ([(b"origin", b"https://evil.example")], "GET", 403),
        ([(b"origin", b"null")], "POST", 403),
        ([(b"origin", b"file://")], "POST", 403),
        ([(b"origin", b"")], "POST", 403),
        ([(b"origin", b"http://127.0.0.1:8000.evil.example")], "POST", 403),
        ([(b"origin", b"http://127.0.0.1:9999")], "POST", 403),
        ([(b"origin", b"http://127.0.0.1:8000"), (b"origin", b"null")], "POST", 403),
        ([(b"sec-fetch-site", b"cross-site")], "POST", 403),
        ([(b"sec-fetch-site", b"cross-site")], "DELETE", 403),
        ([(b"sec-fetch-site", b"cross-site")], "GET", None),
        ([(b"sec-fetch-site", b"same-origin")], "POST", None),
    ],
)
def test_web_pages_of_others_are_refused(
    headers: list[tuple[bytes, bytes]], method: str, expected: int | None
) -> None:
    """Only a page that this server itself delivered may call it; programs send no Origin."""
    assert refused(ME, *headers, method=method) == expected


def test_a_refused_host_gets_the_error_object(client: TestClient[Any]) -> None:
    """Also in front of the router every answer has the shape and an id."""
    response = client.get("/health", headers={"host": "evil.example"})

    assert response.status_code == 421
    assert response.json()["error"]["code"] == "host_not_allowed"
    assert list(response.json()["error"]) == ["message", "type", "param", "code"]
    assert response.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/health", "/nowhere", "/v1/models"])
def test_a_cross_site_page_reaches_no_path(client: TestClient[Any], path: str) -> None:
    """The check is in front of everything, and no answer allows other origins to read it."""
    response = client.get(path, headers={"origin": "https://evil.example"})

    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


def test_every_answer_has_an_id_and_a_time(client: TestClient[Any]) -> None:
    """A new id each time, and how long it took in milliseconds."""
    first, second = client.get("/health").headers, client.get("/nowhere").headers

    assert re.fullmatch(r"req_[0-9a-f]{32}", first["x-request-id"])
    assert first["x-request-id"] != second["x-request-id"]
    assert first["openai-processing-ms"].isdigit()
    assert second["openai-processing-ms"].isdigit()


def test_a_plain_id_of_the_client_is_kept(client: TestClient[Any]) -> None:
    """So that both sides' logs can be joined."""
    headers = {"x-request-id": "trace-1:a.b_C"}

    assert client.get("/health", headers=headers).headers["x-request-id"] == "trace-1:a.b_C"


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, b"a\x1b[2J", b"\xff", b"a;b", b"<b>"])
def test_an_odd_id_is_replaced(client: TestClient[Any], given: bytes) -> None:
    """Nothing that could disturb a log or a header comes back."""
    minted = client.get("/health", headers=[(b"x-request-id", given)]).headers["x-request-id"]

    assert re.fullmatch(r"req_[0-9a-f]{32}", minted)
