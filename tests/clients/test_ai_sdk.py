"""The Vercel AI SDK's provider for OpenAI-compatible servers; ``node/ai_sdk_checks.mjs`` asks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Answers
from tests.clients.expected import ANSWER, CALLED, CALLS, CHAT, ERRORS, STREAM, assert_errors

pytestmark = pytest.mark.timeout(700)


@pytest.fixture(scope="module")
def gave(node_clients: Any) -> Answers:
    return Answers(node_clients["ai_sdk"])


def test_a_whole_reply(gave: Answers) -> None:
    """``generateText``: text, finish reason, tokens and model."""
    assert gave["chat"] == CHAT


def test_a_stream(gave: Answers) -> None:
    """``streamText``: piece by piece, then finish reason and tokens."""
    assert gave["stream"] == STREAM


def test_structured_output(gave: Answers) -> None:
    """``Output.object`` with a zod schema, whole and as a stream."""
    assert gave["structured"].keys() == {"sky", "umbrella"}
    assert gave["structured_stream"].keys() == {"sky", "umbrella"}


def test_errors(gave: Answers) -> None:
    """The SDK has one class for them all, and the status in it."""
    statuses = {
        what: ("APICallError", status) for what, (_, status) in ERRORS.items() if status is not None
    }

    assert_errors(gave["errors"], statuses)


def test_a_stream_that_breaks_off(gave: Answers) -> None:
    """The pieces up to there, and our message."""
    assert gave["broken_stream"] == {"pieces": ["床前"], "failures": ["The scripted failure."]}


def test_tools(gave: Answers) -> None:
    """A step with a call, a step with the answer, whole and as a stream."""
    assert gave["tools_loop"] == CALLED | {"finish": "tool-calls"}
    assert gave["tools_stream"] == {"calls": CALLS, "answer": ANSWER}


def test_a_call_that_is_asked_for(gave: Answers) -> None:
    """Where a call is required, the reply is one, with an input of its schema."""
    assert gave["tools_forced"].keys() == {"sky", "umbrella"}


def test_thoughts(gave: Answers) -> None:
    """They arrive beside the answer, not in it."""
    assert gave["thoughts"] == {"thoughts": "想一想", "text": "好"}
