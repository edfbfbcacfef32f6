"""Grammars from schemas: masks token by token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.base import read_base
from server.engine.errors import GrammarInvalid
from server.engine.guidance import Guidance
from server.engine.tokenizer import Tokenizer
from tests.tiny import tiny_base

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path: Path = tiny_base(tmp_path_factory.mktemp("bases") / "tiny")
    return Tokenizer(read_base(path, "tiny"))


@pytest.fixture(scope="module")
def guidance(tokenizer: Tokenizer) -> Guidance:
    return tokenizer.guidance(2048)


def allowed(grammar: Any) -> list[int]:
    """The tokens that the mask allows."""
    words = grammar.mask()
    return [
        32 * index + bit
        for index, word in enumerate(words.tolist())
        for bit in range(32)
        if word >> bit & 1
    ]


def test_a_mask_allows_what_goes_on_and_nothing_else(
    guidance: Guidance, tokenizer: Tokenizer
) -> None:
    """Every token of the one valid text is allowed in its place; at the end nothing follows."""
    grammar = guidance.from_schema(SCHEMA)()
    text = json.dumps({"ok": True}, separators=(",", ":"))
    for token in tokenizer.encode(text):
        now = allowed(grammar)
        assert token in now
        assert all(
            text.encode().find(tokenizer.piece(one).text) >= 0 or b"f" in tokenizer.piece(one).text
            for one in now
        )
        assert not grammar.is_finished
        grammar.accept(token)
    assert grammar.is_finished


def test_two_replies_do_not_share_their_state(guidance: Guidance, tokenizer: Tokenizer) -> None:
    """One schema, compiled once, and each reply begins at its beginning."""
    make = guidance.from_schema(SCHEMA)
    one, other = make(), make()
    first, *_ = tokenizer.encode('{"ok":true}')
    one.accept(first)
    assert first not in allowed(one)
    assert first in allowed(other)


def test_the_memory_of_schemas_is_bounded(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients cannot fill it."""
    monkeypatch.setattr("server.engine.guidance.MOST_CACHED", 3)
    guidance = tokenizer.guidance(2048)
    for number in range(5):
        guidance.from_schema({"const": number})
    assert len(guidance._compiled) == 3


def test_a_schema_is_tried_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good or bad: the second time its fate is known."""
    guidance = tokenizer.guidance(2048)
    guidance.from_schema(SCHEMA)
    with pytest.raises(GrammarInvalid, match="wibble"):
        guidance.from_schema({"type": "wibble"})
    monkeypatch.setattr("server.engine.guidance._check", None)
    guidance.from_schema(SCHEMA)
    with pytest.raises(GrammarInvalid, match="wibble"):
        guidance.from_schema({"type": "wibble"})


def test_the_first_mask_is_computed_once(guidance: Guidance) -> None:
    """It may take long, and many replies may begin at once on the event loop."""
    make = guidance.from_schema(SCHEMA)
    assert make().mask() is make().mask()


def test_a_token_that_was_not_allowed_ends_the_reply(
    guidance: Guidance, tokenizer: Tokenizer
) -> None:
    """As an error, of this reply alone."""
    grammar = guidance.from_schema(SCHEMA)()
    with pytest.raises(RuntimeError, match="grammar failed"):
        grammar.accept(tokenizer.encode("]")[0])


def test_depth_and_size_are_bounded(guidance: Guidance) -> None:
    """Before llguidance sees it."""
    deep: Any = {}
    for _ in range(65):
        deep = {"items": deep}
    with pytest.raises(GrammarInvalid, match="64 levels"):
        guidance.from_schema(deep)
    with pytest.raises(GrammarInvalid, match="bytes"):
        guidance.from_schema({"const": "x" * 70_000})
