"""LiteLLM's ``openai`` provider against live servers; ``python/litellm_checks.py`` asks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Answers
from tests.clients.expected import CALLED, CALLS, CHAT, ERRORS, PIECES, STREAM, assert_errors

pytestmark = pytest.mark.timeout(700)


@pytest.fixture(scope="module")
def gave(python_clients: Any) -> Answers:
    return Answers(python_clients["litellm"])


def test_a_whole_reply(gave: Answers) -> None:
    """Text, finish reason, tokens and model."""
    assert gave["chat"] == CHAT


def test_a_stream(gave: Answers) -> None:
    """Piece by piece, with the token counts if asked for."""
    assert gave["stream"] == STREAM


def test_an_asynchronous_stream(gave: Answers) -> None:
    """The same by ``acompletion``."""
    assert gave["asynchronous"] == PIECES


def test_structured_output(gave: Answers) -> None:
    """A pydantic class as ``response_format`` gives JSON of it."""
    assert gave["structured"].keys() == {"sky", "umbrella"}


def test_errors(gave: Answers) -> None:
    """LiteLLM tells our refusals apart, also a prompt that is too long from other bad requests."""
    own = {
        "too long": ("ContextWindowExceededError", 400),
        "broken stream": ("MidStreamFallbackError", 500),
    }

    assert_errors(gave["errors"], ERRORS | own)


def test_tools(gave: Answers) -> None:
    """A call, its result, an answer; streamed, the call adds up to the same."""
    assert gave["tools_loop"] == CALLED
    assert gave["tools_stream"] == CALLS


def test_a_call_that_is_asked_for(gave: Answers) -> None:
    """The tool that ``tool_choice`` names is called, with arguments of its schema."""
    assert gave["tools_forced"].keys() == {"city"}


def test_thoughts(gave: Answers) -> None:
    """They arrive beside the answer, not in it."""
    assert gave["thoughts"] == {"thoughts": "想一想", "text": "好"}


def test_responses(gave: Answers) -> None:
    """``litellm.responses``, whole and as a stream."""
    assert gave["responses"] == {"whole": CHAT["text"], "stream": CHAT["text"]}
