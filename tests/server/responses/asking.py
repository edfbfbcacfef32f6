"""How tests ask for responses."""

from __future__ import annotations

from typing import Any

import httpx
import openai
from litestar.testing import TestClient

from tests.fakes import Script, ScriptedEngine
from tests.server.responses.shapes import read_events

PATH = "/v1/responses"


def play(engine: ScriptedEngine, *scripts: Script) -> None:
    """What the next requests are answered with; the last one repeats."""
    engine._scripts = list(scripts)


def post(client: TestClient[Any], **fields: Any) -> httpx.Response:
    """Ask for a response."""
    return client.post(PATH, json={"model": "poet", "input": "你好", **fields})


def made(client: TestClient[Any], **fields: Any) -> dict[str, Any]:
    """A response."""
    answer = post(client, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refused(client: TestClient[Any], **fields: Any) -> tuple[int, str | None, str | None]:
    """Status, parameter and code of a refusal, whose message begins with the parameter."""
    answer = post(client, **fields)
    error = answer.json()["error"]
    return answer.status_code, error["param"], error["code"]


def events(client: TestClient[Any], **fields: Any) -> list[dict[str, Any]]:
    """A streamed response: its events, each checked, their numbers without a gap."""
    answer = post(client, stream=True, **fields)
    assert answer.status_code == 200, answer.text
    return read_events(answer.text)


def sdk(client: TestClient[Any]) -> openai.OpenAI:
    """The official client of the same server."""
    return openai.OpenAI(
        base_url="http://127.0.0.1/v1", api_key="none", max_retries=0, http_client=client
    )
