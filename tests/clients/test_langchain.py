"""LangChain's ``ChatOpenAI`` against live servers; ``python/langchain_checks.py`` asks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.conftest import Answers
from tests.clients.expected import (
    ANSWER,
    CALLED,
    CALLS,
    CHAT,
    ERRORS,
    PIECES,
    STREAM,
    assert_errors,
)

pytestmark = pytest.mark.timeout(700)


@pytest.fixture(scope="module")
def gave(python_clients: Any) -> Answers:
    return Answers(python_clients["langchain"])


def test_a_whole_reply(gave: Answers) -> None:
    """Text, finish reason, tokens and model arrive in LangChain's message."""
    assert gave["chat"] == CHAT


def test_a_stream(gave: Answers) -> None:
    """Piece by piece, and with the token counts if asked for."""
    assert gave["stream"] == STREAM


def test_an_asynchronous_stream(gave: Answers) -> None:
    """The same by ``astream``."""
    assert gave["asynchronous"] == PIECES


def test_structured_output(gave: Answers) -> None:
    """``with_structured_output`` gives an instance of the pydantic model."""
    assert gave["structured"].keys() == {"sky", "umbrella"}


def test_logprobs(gave: Answers) -> None:
    """Each token's alternatives arrive."""
    assert set(gave["logprobs"]) == {2}


def test_errors(gave: Answers) -> None:
    """Every refusal raises the class that its users catch; a long prompt has one of its own."""
    assert_errors(gave["errors"], ERRORS | {"too long": ("ContextOverflowError", 400)})


def test_tools(gave: Answers) -> None:
    """Calls become tool messages and an answer; streamed, they add up to the same calls."""
    assert gave["tools_loop"] == CALLED | {"results": [True]}
    assert gave["tools_stream"] == CALLS


def test_a_call_that_is_asked_for(gave: Answers) -> None:
    """``function_calling`` as the way to structured output: one tool, which has to be called."""
    assert gave["tools_forced"].keys() == {"sky", "umbrella"}


def test_responses(gave: Answers) -> None:
    """``use_responses_api``: whole, as a stream, and with a call of a tool."""
    assert gave["responses"] == {
        "whole": CHAT["text"],
        "stream": CHAT["text"],
        "calls": CALLS,
        "answer": ANSWER,
    }
