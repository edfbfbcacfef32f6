"""What every client should make of the scripted models and of what can go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHAT = {"text": "床前明月光", "finish": "stop", "tokens": 2, "model": "poet"}
PIECES = ["床前", "明月光"]
STREAM = {"pieces": PIECES, "finish": "stop", "tokens": 2}
CALLS = [["weather", {"city": "北京"}]]
ANSWER = "北京晴，25 度"
CALLED = {"finish": "tool_calls", "calls": CALLS, "answer": ANSWER}

# The classes of OpenAI's clients, and of those built upon them.
ERRORS: dict[str, tuple[str, int | None]] = {
    "unknown model": ("NotFoundError", 404),
    "out of bounds": ("BadRequestError", 400),
    "too long": ("BadRequestError", 400),
    "full": ("RateLimitError", 429),
    "wrong key": ("AuthenticationError", 401),
    "our fault": ("InternalServerError", 500),
    "broken stream": ("APIError", None),
}


def assert_errors(
    found: Mapping[str, Mapping[str, Any]], expected: Mapping[str, tuple[str, int | None]]
) -> None:
    """Each error is of the expected class, or of one below it, and has the expected status."""
    assert found.keys() == expected.keys()
    for what, (name, status) in expected.items():
        assert name in found[what]["types"], what
        assert found[what]["status"] == status, what
