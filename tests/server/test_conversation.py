"""The API over a real engine: what a conversation of several turns costs."""

from __future__ import annotations

import json
from typing import Any

from litestar.testing import TestClient

OPENING = [{"role": "user", "content": "床前明月光，下一句是什么？"}]
TURNS = [
    *OPENING,
    {"role": "assistant", "content": "疑是地上霜。"},
    {"role": "user", "content": "再下一句呢？"},
]


def ask(client: TestClient[Any], messages: list[dict[str, str]], **fields: Any) -> Any:
    body = {"model": "tiny", "messages": messages, "max_tokens": 4, "temperature": 0, **fields}
    return client.post("/v1/chat/completions", json=body)


def usage_of(response: Any) -> tuple[int, int]:
    """Tokens of the prompt, and how many of them were cached."""
    usage = response.json()["usage"]
    return usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]


def test_the_next_turn_shows_what_was_cached(real: Any) -> None:
    """All full blocks of the turn before, whole or streamed; the reply is that without a cache."""
    with real() as client:
        opening, cached = usage_of(ask(client, OPENING))
        second = ask(client, TURNS)
        streamed = ask(client, TURNS, stream=True, stream_options={"include_usage": True})
    *_, last, done = [line for line in streamed.text.splitlines() if line]
    with real(prefix_cache=False) as client:
        plain = ask(client, TURNS)

    prompt, found = usage_of(second)
    assert cached == 0
    assert opening - 16 < found <= opening < prompt
    usage = json.loads(last.removeprefix("data: "))["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": (prompt - 1) // 16 * 16}
    assert done == "data: [DONE]"
    assert usage_of(plain) == (prompt, 0)
    assert second.json()["choices"] == plain.json()["choices"]
