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


WHOLE = (b'{"ok":true}', b'{"ok":false}')


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
    """The tokens with which one of the two valid texts may go on; at the end nothing follows."""
    grammar = guidance.from_schema(SCHEMA)()
    texts = [tokenizer.piece(token).text for token in range(2048)]
    done = b""
    for token in tokenizer.encode(json.dumps({"ok": True}, separators=(",", ":"))):
        goes_on = [
            one
            for one, text in enumerate(texts)
            if text and any(whole.startswith(done + text) for whole in WHOLE)
        ]
        assert allowed(grammar) == goes_on
        assert not grammar.is_finished
        grammar.accept(token)
        done += texts[token]
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
    assert len(guidance._known) == 3


def test_a_schema_is_tried_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good or bad: the second time its fate is known."""
    guidance = tokenizer.guidance(2048)
    guidance.from_schema(SCHEMA)
    with pytest.raises(GrammarInvalid, match="wibble"):
        guidance.from_schema({"type": "wibble"})
    monkeypatch.setattr("server.engine.guidance.problem_of", None)
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


def test_a_schema_that_took_too_long_is_tried_again(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine may have been busy."""
    guidance = tokenizer.guidance(2048)
    with monkeypatch.context() as patch:
        patch.setattr("server.engine.guidance.CHECK_TIMEOUT_S", 1e-6)
        with pytest.raises(GrammarInvalid, match="longer than"):
            guidance.from_schema(SCHEMA)
    assert guidance.from_schema(SCHEMA)().mask().any()


def test_a_check_that_fails_is_no_fault_of_the_schema(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bug of ours is told as one."""
    monkeypatch.setattr("server.engine.guidance._CHECK", tmp_path / "missing.py")
    with pytest.raises(RuntimeError, match=r"missing\.py"):
        tokenizer.guidance(2048).from_schema(SCHEMA)
