"""Browsers that have signed in: a cookie that stands for a key, and for no longer than that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from adapters.keyring import Key, Keyring
from server.access.sessions import LONGEST_S, MOST, Sessions
from server.app import create_app
from server.settings import ServerSettings
from tests.fakes import ScriptedEngine

CSRF = {"x-lccc-csrf": "1"}
UNLOAD = "/v1/unload_lora_adapter"


@pytest.fixture
def browser(settings: ServerSettings, engine: ScriptedEngine) -> Iterator[TestClient[Any]]:
    """A client that keeps cookies, before a server with the token `token`."""
    app = create_app(settings, engine=engine, token="token")
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield client


def sign_in(browser: TestClient[Any], key: str) -> int:
    return browser.post("/admin/session", json={"key": key}).status_code


def test_the_token_of_the_link_signs_a_browser_in(browser: TestClient[Any]) -> None:
    """From then on admin routes are open to it, and the page can ask who it is."""
    assert browser.get("/admin/session").status_code == 401

    assert sign_in(browser, "token") == 200

    assert browser.get("/admin/session").json()["name"] == "the token"
    answer = browser.post(UNLOAD, json={"lora_name": "nobody"}, headers=CSRF)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "adapter_not_found")


def test_the_token_of_the_link_can_be_used_again(browser: TestClient[Any]) -> None:
    """By another browser too, until the server ends, as the README says."""
    for _ in range(2):
        browser.cookies.clear()
        assert sign_in(browser, "token") == 200
        assert browser.get("/admin/session").json()["name"] == "the token"


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(browser: TestClient[Any]) -> None:
    """HttpOnly, SameSite=Strict; named by port, because browsers share cookies between ports."""
    answer = browser.post("/admin/session", json={"key": "token"})

    name, _, rest = answer.headers["set-cookie"].partition("=")
    attributes = {part.strip().lower() for part in rest.split(";")[1:]}
    assert name == "lccc_session_8000"
    assert {"httponly", "samesite=strict", "path=/", f"max-age={LONGEST_S}"} == attributes
    assert "token" not in rest.split(";")[0]


def test_a_cookie_alone_changes_nothing(browser: TestClient[Any]) -> None:
    """Browsers send it by themselves: what may change something needs the header besides."""
    sign_in(browser, "token")

    unmeant = browser.post(UNLOAD, json={"lora_name": "nobody"})
    assert (unmeant.status_code, unmeant.json()["error"]["code"]) == (403, "csrf_header_missing")
    assert browser.delete("/admin/session").status_code == 403
    assert browser.get("/admin/session").status_code == 200


def test_only_admin_keys_sign_in(browser: TestClient[Any], settings: ServerSettings) -> None:
    """An inference key is 403, a wrong one 401; neither gets a cookie."""
    inference = Keyring(settings.home.keys).create("laptop")

    assert [sign_in(browser, key) for key in (inference, "wrong")] == [403, 401]
    assert not browser.cookies
    assert browser.post("/admin/session", json={}).status_code == 400


def test_a_session_ends_with_its_key(browser: TestClient[Any], settings: ServerSettings) -> None:
    """Revoked on the running server: the next request with the cookie is refused."""
    keyring = Keyring(settings.home.keys)
    assert sign_in(browser, keyring.create("ops", "admin")) == 200
    assert browser.get("/v1/models").status_code == 200
    assert browser.get("/admin/session").json()["name"] == "ops"

    keyring.revoke("ops")

    refused = browser.get("/admin/session")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")


def test_signing_out_ends_the_session(browser: TestClient[Any]) -> None:
    """On the server too: a copy of the cookie is worth nothing afterwards."""
    sign_in(browser, "token")
    copied = {"cookie": f"lccc_session_8000={browser.cookies['lccc_session_8000']}"}

    assert browser.delete("/admin/session", headers=CSRF).status_code == 204

    assert not browser.cookies
    assert browser.get("/admin/session", headers=copied).status_code == 401


def test_a_key_in_the_header_goes_before_the_cookie(browser: TestClient[Any]) -> None:
    """A wrong key is refused although the cookie would do."""
    sign_in(browser, "token")
    wrong = {"authorization": "Bearer wrong"}
    assert browser.get("/admin/session", headers=wrong).status_code == 401


@pytest.mark.parametrize(
    "value", ["", "lccc_session_8000=", "=;=,\x01", "lccc_session_8000=nothing"]
)
def test_odd_cookies_are_no_session(browser: TestClient[Any], value: str) -> None:
    """Whatever a client makes up is the same as no cookie."""
    answer = browser.get("/admin/session", headers={"cookie": value})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key")


@pytest.mark.parametrize(
    "others",
    ['theme={"a":1}', "a[b]=c", "naïve=é", "x y=1", "a=b; ", "=", "lone", 'foo="bar', "a@b=c,d"],
)
def test_no_cookie_of_others_hides_ours(browser: TestClient[Any], others: str) -> None:
    """Browsers send whatever is set for the host, from every port, before ours or after it."""
    sign_in(browser, "token")
    ours = f"lccc_session_8000={browser.cookies['lccc_session_8000']}"
    browser.cookies.clear()

    for value in (f"{others}; {ours}", f"{ours}; {others}"):
        answer = browser.get("/admin/session", headers=[(b"cookie", value.encode())])
        assert answer.status_code == 200, value


def key(name: str) -> Key:
    return Key(name=name, begins="", created=0, sha256="0" * 64, scope="admin")


def headers_with(secret: str) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"127.0.0.1:8000"), (b"cookie", f"lccc_session_8000={secret}".encode())]


def test_sessions_end_by_themselves() -> None:
    """After seven days, to the second."""
    now = 1000.0
    sessions = Sessions(lambda: now)
    secret, session = sessions.open(key("ops"))
    assert sessions.find(headers_with(secret)) == session
    now += LONGEST_S - 1
    assert sessions.find(headers_with(secret)) == session
    now += 1
    assert sessions.find(headers_with(secret)) is None


def test_the_number_of_sessions_is_bounded() -> None:
    """The oldest gives way."""
    sessions = Sessions()
    secrets = [sessions.open(key("ops"))[0] for _ in range(MOST + 1)]
    assert sessions.find(headers_with(secrets[0])) is None
    assert all(sessions.find(headers_with(secret)) for secret in secrets[1:])
