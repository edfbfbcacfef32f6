"""Who may do what: every route, with every kind of key."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from litestar import Litestar, get
from litestar.handlers import HTTPRouteHandler
from litestar.testing import TestClient

from adapters.keyring import Keyring
from server.access.scopes import access_of
from server.app import create_app
from server.settings import ServerSettings
from tests.conftest import LiveServer
from tests.fakes import ScriptedEngine

FREE = {
    "/health",
    "/ready",
    "/docs",
    "/docs/{name}",
    "/openapi.json",
    "/console",
    "/console/{name}",
}
ADMIN = {"/v1/load_lora_adapter", "/v1/unload_lora_adapter"}


# Signing in and out is for those who are not signed in; asking who one is, is not.
SIGNING = {("POST", "/admin/session"), ("DELETE", "/admin/session")}


# There is none of what these names stand for.
MISSING = re.compile(r"\{(response_id|run_id|job_id|upload_id)\}|/admin/.*\{name\}")


def expected(method: str, path: str) -> str:
    if path in FREE or (method, path) in SIGNING:
        return "free"
    return "admin" if path in ADMIN or path.startswith("/admin") else "inference"


def handlers(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    """Method, path and handler of everything that is served, Litestar's own OPTIONS apart."""
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):  # a WebSocket's route has one
            for method in handler.http_methods - {"OPTIONS"}:
                yield method, route.path_format, handler


@pytest.fixture
def keyed(settings: ServerSettings, engine: ScriptedEngine) -> Iterator[TestClient[Any]]:
    """A server with a token and with keys of its own."""
    changed = msgspec.structs.replace(settings, api_key="own-inference", admin_key="own-admin")
    app = create_app(changed, engine=engine, token="token")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def keys(settings: ServerSettings) -> dict[str, str]:
    """One key of home for each scope, and what else a client might send."""
    keyring = Keyring(settings.home.keys)
    return {
        "none": "",
        "wrong": "Bearer wrong",
        "inference": f"Bearer {keyring.create('laptop')}",
        "admin": f"Bearer {keyring.create('ops', 'admin')}",
        "own-inference": "Bearer own-inference",
        "own-admin": "Bearer own-admin",
        "token": "Bearer token",
    }


def test_every_route_says_who_may_use_it(client: TestClient[Any]) -> None:
    """Nothing rests on what holds for routes that say nothing; admin routes are where expected."""
    for method, path, handler in handlers(client.app):
        assert "access" in handler.opt, (
            f"{method} {path} does not say opt=… of server.access.scopes"
        )
        assert access_of(handler) == expected(method, path), f"{method} {path}"


def test_each_key_opens_what_its_scope_says(keyed: TestClient[Any], keys: dict[str, str]) -> None:
    """Every route with every kind of key: let in, 401 or 403, and nothing in between."""
    opens = {
        "none": {"free"},
        "wrong": {"free"},
        "inference": {"free", "inference"},
        "own-inference": {"free", "inference"},
        "admin": {"free", "inference", "admin"},
        "own-admin": {"free", "inference", "admin"},
        "token": {"free", "inference", "admin"},
    }
    seen = set()
    for method, template, _ in handlers(keyed.app):
        path = template.replace("{model_id}", "base").replace("{name}", "start.js")
        path = path.replace("/console/start.js", "/console/style.css")
        needed = expected(method, template)
        for kind, header in keys.items():
            answer = keyed.request(
                method,
                path,
                content=b"{}" if method == "POST" else None,
                headers={"content-type": "application/json"}
                | ({"authorization": header} if header else {}),
            )
            found = (method, path, kind, answer.status_code)
            if needed in opens[kind]:
                unmeant = (method, path) == ("DELETE", "/admin/session")
                missing = MISSING.search(template)
                allowed = (403,) if unmeant else (404, 400) if missing else (200, 400)
                assert answer.status_code in allowed, found
            elif kind in ("none", "wrong"):
                code = "missing_api_key" if kind == "none" else "invalid_api_key"
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, code), found
                assert answer.headers["www-authenticate"] == "Bearer"
            else:
                code = answer.json()["error"]["code"]
                assert (answer.status_code, code) == (403, "insufficient_scope"), found
                assert 'scope="admin"' in answer.headers["www-authenticate"]
            seen.add((needed, kind))
    assert len(seen) == 3 * len(keys)


@pytest.mark.parametrize("path", sorted(ADMIN))
def test_admin_routes_are_shut_where_there_is_no_key(client: TestClient[Any], path: str) -> None:
    """Also on this machine, where everyone may chat; the message has both ways in."""
    assert client.get("/v1/models").status_code == 200

    bare = client.post(path, json={})
    guessed = client.post(path, json={}, headers={"authorization": "Bearer x"})

    assert (bare.status_code, guessed.status_code) == (401, 401)
    assert bare.json()["error"]["code"] == "missing_api_key"
    assert "--scope admin" in bare.json()["error"]["message"]
    assert "lccc-admin serve" in bare.json()["error"]["message"]
    assert guessed.json()["error"]["code"] == "invalid_api_key"


def test_a_token_takes_nobodys_free_entry_away(
    settings: ServerSettings, engine: ScriptedEngine
) -> None:
    """It is no key: without any, inference stays open, and the network shut."""
    app = create_app(settings, engine=engine, token="token")
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/v1/models").status_code == 200
        opened = client.get("/v1/models", headers={"authorization": "Bearer token"})
        assert opened.status_code == 200


def test_a_route_that_says_nothing_is_the_admins(
    settings: ServerSettings, engine: ScriptedEngine
) -> None:
    """Whoever forgets to say it shuts a door and opens none."""

    @get("/forgotten", sync_to_thread=False)
    def forgotten() -> str:
        return "in"

    app = create_app(settings, engine=engine, token="token")
    app.register(forgotten)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        assert client.get("/forgotten").status_code == 401
        opened = client.get("/forgotten", headers={"authorization": "Bearer token"})
        assert opened.text == "in"


def test_what_a_key_may_do_changes_at_once(
    client: TestClient[Any], settings: ServerSettings
) -> None:
    """Revoked and made anew with another scope, on the running server."""
    keyring = Keyring(settings.home.keys)

    def status(secret: str) -> int:
        header = {"authorization": f"Bearer {secret}"}
        return client.post("/v1/unload_lora_adapter", json={}, headers=header).status_code

    plain = keyring.create("ops")
    assert status(plain) == 403
    keyring.revoke("ops")
    assert status(plain) == 401
    assert status(keyring.create("ops", "admin")) == 400


def test_methods_are_listed_to_who_may_chat(
    client: TestClient[Any], settings: ServerSettings
) -> None:
    """OPTIONS, which Litestar answers by itself, says no more and needs no more than a 405."""
    assert client.options("/v1/load_lora_adapter").status_code == 204
    Keyring(settings.home.keys).create("laptop")
    assert client.options("/v1/load_lora_adapter").status_code == 401


def test_the_token_of_a_server_opens_that_server_alone(live: LiveServer) -> None:
    """Over a real connection, as often as it is sent; the next server has another."""

    def unload(server: Any, token: str) -> int:
        url = f"{server.url}/unload_lora_adapter"
        headers = {"authorization": f"Bearer {token}"}
        return httpx.post(url, json={"lora_name": "nobody"}, headers=headers).status_code

    with live() as first:
        token = first.serving.token
        assert [unload(first, token), unload(first, token), unload(first, "x")] == [404, 404, 401]
    with live() as second:
        assert unload(second, token) == 401
        assert unload(second, second.serving.token) == 404
    assert token not in repr(first.serving)
