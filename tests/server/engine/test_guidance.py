"""Grammars from schemas: masks token by token."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters.base import read_base
from server.engine.errors import GrammarInvalid
from server.engine.guidance import CHECK_TIMEOUT_S, Guidance
from server.engine.schema_check import CPU_S
from server.engine.tokenizer import Tokenizer
from server.engine.types import Function, Shape
from tests.server.engine.walking import walk
from tests.tiny import MARKS, byte_tokenizer, tiny_base

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
    grammar = guidance.of_shape(Shape(schema=SCHEMA))()
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
    make = guidance.of_shape(Shape(schema=SCHEMA))
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
        guidance.of_shape(Shape(schema={"const": number}))
    assert len(guidance._known) == 3


def test_a_schema_is_tried_once(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Good or bad: the second time its fate is known."""
    guidance = tokenizer.guidance(2048)
    guidance.of_shape(Shape(schema=SCHEMA))
    with pytest.raises(GrammarInvalid, match="wibble"):
        guidance.of_shape(Shape(schema={"type": "wibble"}))
    monkeypatch.setattr("server.engine.guidance.problem_of", None)
    guidance.of_shape(Shape(schema=SCHEMA))
    with pytest.raises(GrammarInvalid, match="wibble"):
        guidance.of_shape(Shape(schema={"type": "wibble"}))


def test_the_first_mask_is_computed_once(guidance: Guidance) -> None:
    """It may take long, and many replies may begin at once on the event loop."""
    make = guidance.of_shape(Shape(schema=SCHEMA))
    assert make().mask() is make().mask()


def test_a_token_that_was_not_allowed_ends_the_reply(
    guidance: Guidance, tokenizer: Tokenizer
) -> None:
    """As an error, of this reply alone."""
    grammar = guidance.of_shape(Shape(schema=SCHEMA))()
    with pytest.raises(RuntimeError, match="grammar failed"):
        grammar.accept(tokenizer.encode("]")[0])


def test_depth_and_size_are_bounded(guidance: Guidance) -> None:
    """Before llguidance sees it."""
    deep: Any = {}
    for _ in range(65):
        deep = {"items": deep}
    with pytest.raises(GrammarInvalid, match="64 levels"):
        guidance.of_shape(Shape(schema=deep))
    with pytest.raises(GrammarInvalid, match="bytes"):
        guidance.of_shape(Shape(schema={"const": "x" * 70_000}))


def test_a_number_that_cannot_be_held_to_is_refused(guidance: Guidance) -> None:
    """Of the answer, and of a function by its index."""
    schema = {"type": "object", "properties": {"a": {"exclusiveMinimum": 0, "maximum": 0.1}}}
    with pytest.raises(GrammarInvalid, match=r"properties\.a\.exclusiveMinimum 0"):
        guidance.of_shape(Shape(schema=schema))
    with pytest.raises(GrammarInvalid, match="narrower than 1") as refused:
        guidance.of_shape(Shape(functions=(Function(name="f", parameters=schema),)))
    assert refused.value.function == 0


def test_a_schema_that_took_too_long_is_tried_again(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine may have been busy."""
    guidance = tokenizer.guidance(2048)
    with monkeypatch.context() as patch:
        patch.setattr("server.engine.guidance.CHECK_TIMEOUT_S", 1e-6)
        with pytest.raises(GrammarInvalid, match="longer than"):
            guidance.of_shape(Shape(schema=SCHEMA))
    assert guidance.of_shape(Shape(schema=SCHEMA))().mask().any()


def test_a_check_that_fails_is_no_fault_of_the_schema(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bug of ours is told as one."""
    monkeypatch.setattr("server.engine.guidance._CHECK", tmp_path / "missing.py")
    with pytest.raises(RuntimeError, match=r"missing\.py"):
        tokenizer.guidance(2048).of_shape(Shape(schema=SCHEMA))


FINE = Function(name="fine", parameters={"type": "object", "properties": {}})


def with_property(schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": schema}, "required": ["a"]}


@pytest.mark.parametrize("schema", [None, SCHEMA])
@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        (with_property({"type": "wibble"}), "wibble"),
        (with_property({"type": "string", "pattern": "(["}), "regex"),
        (with_property({"$ref": "#/$defs/none"}), "none"),
        (with_property({"const": "x" * 70_000}), "bytes"),
    ],
    ids=["type", "pattern", "reference", "large"],
)
def test_the_function_is_named_whose_schema_is_refused(
    guidance: Guidance, parameters: dict[str, Any], reason: str, schema: dict[str, Any] | None
) -> None:
    """By its place among the functions, whether there is a schema of the answer or not."""
    functions = (FINE, Function(name="bad", parameters=parameters), FINE)
    with pytest.raises(GrammarInvalid, match=reason) as caught:
        guidance.of_shape(Shape(schema=schema, functions=functions))
    assert caught.value.function == 1


def test_the_answers_schema_is_no_functions(guidance: Guidance) -> None:
    """Where that one is refused."""
    with pytest.raises(GrammarInvalid, match="wibble") as caught:
        guidance.of_shape(Shape(schema={"type": "wibble"}, functions=(FINE,)))
    assert caught.value.function is None


def test_schemas_are_bounded_together(guidance: Guidance) -> None:
    """The function is named with which they become too much."""
    large = Function(name="large", parameters=with_property({"description": "x" * 60_000}))
    with pytest.raises(GrammarInvalid, match="before it") as caught:
        guidance.of_shape(Shape(functions=(large,) * 6))
    assert caught.value.function == 4


def test_a_schema_that_takes_too_long_is_named(
    guidance: Guidance, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also where the program that tried it was killed, by time or by memory."""
    functions = (FINE, Function(name="other", parameters=with_property({"type": "integer"})))
    program = tmp_path / "check.py"
    monkeypatch.setattr("server.engine.guidance._CHECK", program)
    begun = "import os, sys, time\nsys.stdin.read()\nprint('0\\n1', flush=True)\n"
    ends = {
        "os.kill(os.getpid(), 9)": "memory",
        "os.kill(os.getpid(), 24)": "longer than 3 s",  # SIGXCPU
        "time.sleep(60)": "longer than 2 s",
    }
    for end, reason in ends.items():
        program.write_text(begun + end)
        monkeypatch.setattr("server.engine.guidance.CHECK_TIMEOUT_S", 1.5)
        with pytest.raises(GrammarInvalid, match=reason) as caught:
            guidance.of_shape(Shape(functions=functions))
        assert caught.value.function == 1
        functions += (Function(name=f"more_{len(functions)}", parameters={}),)  # not known yet


def test_a_busy_machine_is_no_fault_of_the_schema() -> None:
    """What is counted is the time of a processor, of which the program may use so much."""
    shown = "import resource; main(); print(resource.getrlimit(resource.RLIMIT_CPU)[0])"
    done = subprocess.run(
        [sys.executable, "-c", f"from server.engine.schema_check import main; {shown}"],
        input=b'{"schemas":[]}',
        capture_output=True,
        check=True,
    )
    assert int(done.stdout.split()[-1]) == CPU_S < CHECK_TIMEOUT_S


@pytest.mark.parametrize("text", ["a<|im_end|>b", "<think>", "<tool_call>\n", "</tool_call>"])
def test_names_of_control_tokens_can_be_said(text: str) -> None:
    """Where a schema leaves no other choice, they are spelled; no token stands for them."""
    tokenizer = byte_tokenizer(MARKS)
    guidance = Guidance(tokenizer, len(tokenizer))
    schema = {"type": "object", "properties": {text: {"const": text}}, "required": [text]}
    make = guidance.of_shape(Shape(schema=schema | {"additionalProperties": False}))

    said, has_ended = walk(make(), tokenizer, 0, likes=range(256, len(tokenizer)))

    assert has_ended
    assert json.loads(said) == {text: text}
