"""OpenAI's Node client against live servers; ``node/openai_checks.mjs`` asks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Answers
from tests.clients.expected import CALLED, CALLS, CHAT, ERRORS, STREAM, assert_errors
from tests.clients.stage import PARTS

pytestmark = pytest.mark.timeout(700)


@pytest.fixture(scope="module")
def gave(node_clients: Any) -> Answers:
    return Answers(node_clients["openai"])


def test_a_whole_reply(gave: Answers) -> None:
    """Text, finish reason, tokens, model, and the request's id from the header."""
    assert gave["chat"] == CHAT | {"hasRequestId": True}


def test_a_stream(gave: Answers) -> None:
    """Chunks as they come, usage last; the helper puts them together."""
    assert gave["stream"] == STREAM
    assert gave["stream_helper"] == CHAT["text"]


def test_structured_output(gave: Answers) -> None:
    """``parse`` with a zod schema gives an object that zod accepts."""
    assert gave["structured"].keys() == {"sky", "umbrella"}


def test_models(gave: Answers) -> None:
    """They can be listed and retrieved."""
    assert gave["models"] == {"listed": list(PARTS), "one": "poet"}


def test_text_completion(gave: Answers) -> None:
    """The older endpoint."""
    assert gave["text"] == CHAT["text"]


def test_errors(gave: Answers) -> None:
    """Every refusal is of the class that its users look for."""
    assert_errors(gave["errors"], ERRORS)


def test_tools(gave: Answers) -> None:
    """``runTools`` calls our function and goes on; streamed, zod parses the arguments."""
    assert gave["tools_loop"] == CALLED
    assert gave["tools_stream"] == CALLS


def test_a_call_that_is_asked_for(gave: Answers) -> None:
    """Where a call is required, the reply is one, with arguments that zod accepts."""
    assert gave["tools_forced"].keys() == {"sky", "umbrella"}


def test_responses(gave: Answers) -> None:
    """Whole, as a stream from its first event to its last, and parsed with a zod schema."""
    assert gave["responses"] == {
        "whole": CHAT["text"],
        "stream": CHAT["text"],
        "ends": ["response.created", "response.completed"],
    }
    assert gave["responses_structured"].keys() == {"sky", "umbrella"}
