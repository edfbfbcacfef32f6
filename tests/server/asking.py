"""How tests ask a server, and put a stream together again."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
from litestar.testing import TestClient

from tests.conftest import Live
from tests.waiting import PATIENCE_S

USER: openai.types.chat.ChatCompletionMessageParam = {"role": "user", "content": "你好"}


def ask(client: TestClient[Any], **fields: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": "poet", "messages": [USER], **fields})


def frames(server: Live, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": "poet", "messages": [USER], "stream": True, **fields}
    text = httpx.post(f"{server.url}/chat/completions", json=body, timeout=PATIENCE_S).text
    *lines, last = [line for line in text.splitlines() if line]
    assert last == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def streamed(client: TestClient[Any], path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *lines, last = client.post(path, json=body | options).text.strip().split("\n\n")
    assert last == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def joined(frames: list[dict[str, Any]], index: int, text: Any) -> tuple[str, list[Any], str]:
    """The text, logprobs and finish of one choice of a stream. ``text`` takes it from a choice."""
    own = [choice for frame in frames for choice in frame["choices"] if choice["index"] == index]
    logprobs = [choice["logprobs"] for choice in own if choice["logprobs"]]
    (finish,) = [choice["finish_reason"] for choice in own if choice["finish_reason"]]
    return "".join(text(choice) or "" for choice in own), logprobs, finish
