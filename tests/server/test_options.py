"""What ``OPTIONS`` says of a path that several handlers share."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, delete, get
from litestar.params import FromPath
from litestar.testing import TestClient

from server.options import list_all_methods


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

    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, DELETE, OPTIONS")


def test_the_server_lists_its_own(client: TestClient[Any]) -> None:
    """As where a method is refused; an unknown path stays unknown."""
    answer = client.options("/v1/chat/completions")

    assert (answer.status_code, answer.headers["allow"]) == (204, "POST, OPTIONS")
    assert client.options("/nowhere").status_code == 404
