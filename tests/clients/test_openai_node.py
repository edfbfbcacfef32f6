"""OpenAI's Node client against live servers; ``node/openai_checks.mjs`` asks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Answers
from tests.clients.expected import CHAT, ERRORS, STREAM, assert_errors
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
