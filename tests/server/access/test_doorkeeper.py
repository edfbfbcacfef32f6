"""Keys at the door of a server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import msgspec
import openai
import pytest
from litestar.testing import TestClient

from adapters.keyring import Keyring
from server.app import create_app
from server.process import Exposed, listen
from server.settings import ServerSettings
from tests.conftest import LiveServer
from tests.fakes import ScriptedEngine

PATHS = [
    ("GET", "/v1/models"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/tokenize"),
    ("GET", "/metrics"),
    ("GET", "/version"),
    ("GET", "/no/such/path"),
]


@pytest.fixture
def keyring(settings: ServerSettings) -> Keyring:
    return Keyring(settings.home.keys)


def models(client: TestClient[Any], *headers: tuple[str, str]) -> Any:
    return client.get("/v1/models", headers=list(headers))


def bearer(secret: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {secret}")


def test_without_keys_loopback_is_open(client: TestClient[Any]) -> None:
    """And a header that clients send all the same does no harm."""
    assert models(client).status_code == 200
    assert models(client, bearer("none")).status_code == 200


def test_from_the_first_key_on_one_is_needed(client: TestClient[Any], keyring: Keyring) -> None:
    """On the running server, at once; and after the last is revoked, none."""
    secret = keyring.create("laptop")
    without, wrong, right = (
        models(client),
        models(client, bearer("x")),
        models(client, bearer(secret)),
    )
    keyring.revoke("laptop")

    assert (without.status_code, wrong.status_code, right.status_code) == (401, 401, 200)
    assert without.json()["error"]["code"] == "missing_api_key"
    assert wrong.json()["error"] == {
        "message": "The key is not valid: it was revoked, or never made by "
        "`lccc-admin keys create`.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
    assert wrong.headers["www-authenticate"] == "Bearer"
    assert wrong.headers["x-request-id"]
    assert models(client).status_code == 200


def test_where_the_keys_are_gone_nobody_is_let_in(
    client: TestClient[Any], keyring: Keyring
) -> None:
    """As with a disk that is not mounted: that takes nobody's door away. Back again, they hold."""
    secret = keyring.create("laptop")
    assert models(client, bearer(secret)).status_code == 200
    away = keyring.path.rename(keyring.path.with_name("away"))
    for headers in ((), (bearer(secret),)):
        gone = models(client, *headers)
        assert (gone.status_code, gone.json()["error"]["code"]) == (503, "keys_unreadable")
    away.rename(keyring.path)
    assert models(client, bearer(secret)).status_code == 200
    assert models(client).status_code == 401


def test_a_revoked_key_is_refused_at_once(client: TestClient[Any], keyring: Keyring) -> None:
    """While others go on to hold."""
    lost, kept = keyring.create("lost"), keyring.create("kept")
    assert models(client, bearer(lost)).status_code == 200

    keyring.revoke("lost")

    assert models(client, bearer(lost)).status_code == 401
    assert models(client, bearer(kept)).status_code == 200


@pytest.mark.parametrize(("method", "path"), PATHS)
def test_everything_is_behind_the_door(
    client: TestClient[Any], keyring: Keyring, method: str, path: str
) -> None:
    """Also what is not there, so that nobody can find out what is."""
    keyring.create("laptop")

    assert client.request(method, path).status_code == 401


def test_probes_need_no_key(client: TestClient[Any], keyring: Keyring) -> None:
    """Whoever watches the process has none."""
    keyring.create("laptop")

    assert client.get("/health").status_code == 200
    assert client.get("/ready").status_code == 200


@pytest.mark.parametrize(
    "form",
    ["{}", "Basic {}", "Bearer", "Bearer  ", "Bearer {} x", "Bearer {}x", "Token {}", "Bearer\t{}"],
)
def test_a_key_in_another_form_is_none(
    client: TestClient[Any], keyring: Keyring, form: str
) -> None:
    """Only ``Bearer KEY`` is a key."""
    secret = keyring.create("laptop")

    assert models(client, ("authorization", form.format(secret))).status_code == 401


def test_two_keys_in_one_request_are_none(client: TestClient[Any], keyring: Keyring) -> None:
    """Proxies differ in which of them they would take."""
    secret = keyring.create("laptop")

    assert models(client, bearer(secret), bearer("x")).status_code == 401
    assert models(client, ("Authorization", f"bearer {secret}")).status_code == 200


def test_a_damaged_file_lets_nobody_in(client: TestClient[Any], keyring: Keyring) -> None:
    """Not even those who had a key; once it is mended they are back."""
    secret = keyring.create("laptop")
    good = keyring.path.read_bytes()
    keyring.path.write_bytes(b"{")

    answer = models(client, bearer(secret))

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "keys_unreadable")
    keyring.path.write_bytes(good)
    os.utime(keyring.path)
    assert models(client, bearer(secret)).status_code == 200


@pytest.fixture
def keyed(settings: ServerSettings, engine: ScriptedEngine) -> Iterator[TestClient[Any]]:
    """A server that was given a key of its own."""
    changed = msgspec.structs.replace(settings, api_key="own")
    with TestClient(create_app(changed, engine=engine), base_url="http://127.0.0.1") as client:
        yield client


def test_a_server_can_have_a_key_of_its_own(keyed: TestClient[Any], keyring: Keyring) -> None:
    """Beside those of home."""
    secret = keyring.create("laptop")

    assert models(keyed).status_code == 401
    assert models(keyed, bearer("own")).status_code == 200
    assert models(keyed, bearer(secret)).status_code == 200


def test_without_keys_the_network_stays_shut(settings: ServerSettings, keyring: Keyring) -> None:
    """A key, or a word of the user, opens it; and revoking the last key shuts it, not opens it."""
    exposed = msgspec.structs.replace(settings, host="0.0.0.0")
    with pytest.raises(Exposed, match="keys create"):
        listen(exposed)
    for own in ("api_key", "admin_key"):
        listen(msgspec.structs.replace(exposed, **{own: "own"})).close()
    keyring.create("laptop")
    listen(exposed).close()
    engine = ScriptedEngine()
    with TestClient(create_app(exposed, engine=engine), base_url="http://127.0.0.1") as client:
        keyring.revoke("laptop")
        assert models(client).status_code == 401


def test_the_official_client_raises_its_class(live: LiveServer, keyring: Keyring) -> None:
    """``AuthenticationError`` for a wrong key; with the right one it works."""
    with live() as server:
        secret = keyring.create("laptop")
        for key in ("wrong", secret):
            with openai.OpenAI(base_url=server.url, api_key=key, max_retries=0) as client:
                if key == secret:
                    assert client.models.list().data
                    continue
                with pytest.raises(openai.AuthenticationError) as caught:
                    client.models.list()
                assert caught.value.code == "invalid_api_key"
