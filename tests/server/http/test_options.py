"""What ``OPTIONS`` says of a path that several handlers share, and ``HEAD`` of one."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from litestar import Litestar, delete, get
from litestar.params import FromPath
from litestar.testing import TestClient

from adapters.keyring import Keyring
from server.http.options import list_all_methods
from server.settings import ServerSettings
from tests.conftest import LiveServer


@get("/things/{name:str}")
async def show(name: FromPath[str]) -> str:
    return name


@delete("/things/{name:str}")
async def forget(name: FromPath[str]) -> None: ...


def test_the_methods_of_all_handlers_are_listed() -> None:
    """Not only those of the first, which is what Litestar lists."""
    app = Litestar([show, forget], before_send=[list_all_methods], logging_config=None)
    with TestClient(app) as client:
        answer = client.options("/things/one")

    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, DELETE, OPTIONS")


def test_the_server_lists_its_own(client: TestClient[Any]) -> None:
    """As where a method is refused; an unknown path stays unknown."""
    answer = client.options("/v1/chat/completions")

    assert (answer.status_code, answer.headers["allow"]) == (204, "POST, OPTIONS")
    assert client.options("/nowhere").status_code == 404


@pytest.mark.parametrize("path", ["/health", "/v1/models", "/docs", "/nowhere", "/v1/completions"])
def test_head_is_get_without_the_body(live: LiveServer, path: str) -> None:
    """Same status and headers, also of refusals; nothing is left on the connection."""
    with live() as server, httpx.Client(base_url=server.serving.base_url) as client:
        head, get = client.head(path), client.get(path)

    assert head.status_code == get.status_code
    assert head.content == b""
    assert head.headers.keys() == get.headers.keys()
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))


def test_head_needs_what_get_needs(client: TestClient[Any], settings: ServerSettings) -> None:
    """It tells nobody what GET would not."""
    Keyring(settings.home.keys).create("laptop")

    assert client.head("/health").status_code == 200
    assert client.head("/v1/models").status_code == 401
