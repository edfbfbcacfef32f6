"""Grammars of whole replies: whatever a model likes to say, its calls and answers are valid."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from server.engine.errors import GrammarInvalid
from server.engine.guidance import Guidance
from server.engine.types import Function, Shape, Thought
from server.replies.parts import ArgumentsPart, CallPart, ContentPart, ReasoningPart
from server.replies.qwen_reader import QwenReader
from tests.server.engine.walking import TOKENIZERS, allowed, walk

NASTY = '// {"a": %json} \n */ "</tool_call><|im_end|>\\'
WEATHER = {
    "type": "object",
    "description": NASTY,
    "properties": {
        "city": {"enum": ["北京", "上海", NASTY]},
        "celsius": {"type": "boolean"},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
    },
    "required": ["city", "celsius", "days"],
    "additionalProperties": False,
}
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False}
FUNCTIONS = (
    Function(name="get_weather", parameters=WEATHER),
    Function(name="now", parameters=NOTHING),
)
ANSWER = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
SEEDS = range(6)


@pytest.fixture(autouse=True)
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """These schemas are harmless, and a process for each would take most of the time."""
    monkeypatch.setattr("server.engine.guidance.problem_of", lambda _: None)


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    return TOKENIZERS[request.param]()


@pytest.fixture(scope="module")
def guidance(tokenizer: PreTrainedTokenizerFast) -> Guidance:
    return Guidance(tokenizer, len(tokenizer) + 5)


def likes_of(tokenizer: PreTrainedTokenizerFast) -> set[int]:
    """Whatever has to do with marks, and is no control token."""
    return set(range(257, len(tokenizer))) - {257, tokenizer.eos_token_id}


def is_valid(name: str, arguments: str) -> bool:
    """Whether the arguments are of the function's schema, and written as Qwen's models write."""
    found: dict[str, Any] = json.loads(arguments)
    assert json.dumps(found, ensure_ascii=False) == arguments or "\\u" in arguments
    if name == "now":
        return found == {}
    return (
        list(found) == ["city", "celsius", "days"]
        and found["city"] in WEATHER["properties"]["city"]["enum"]  # type: ignore[index]
        and found["celsius"] in (True, False)
        and 1 <= found["days"] <= 14
    )


def read(text: str, thought: Thought) -> tuple[str, str, list[tuple[str, str]], bool]:
    """Thoughts, content and calls, and whether there are calls and all are whole."""
    reader = QwenReader(thought=thought, functions=["get_weather", "now"])
    parts = [*reader.feed(text), *reader.finish()]
    calls: list[tuple[str, str]] = []
    for part in parts:
        if isinstance(part, CallPart):
            calls.append((part.name, ""))
        if isinstance(part, ArgumentsPart):
            calls[-1] = calls[-1][0], calls[-1][1] + part.text
    content = "".join(part.text for part in parts if isinstance(part, ContentPart))
    reasoning = "".join(part.text for part in parts if isinstance(part, ReasoningPart))
    return reasoning, content, calls, reader.has_calls


@pytest.mark.parametrize("thought", ["none", "possible", "open"])
@pytest.mark.parametrize("at_most_one", [False, True])
def test_calls_that_have_to_be_made_are_made(
    guidance: Guidance, tokenizer: PreTrainedTokenizerFast, thought: Thought, at_most_one: bool
) -> None:
    """One or more, of the functions and with arguments that there are, and nothing else."""
    shape = Shape(functions=FUNCTIONS, must_call=True, at_most_one=at_most_one, thought=thought)
    make = guidance.of_shape(shape)
    counts = set()
    for seed in SEEDS:
        text, has_ended = walk(make(), tokenizer, seed, likes_of(tokenizer))
        _, content, calls, is_whole = read(text, thought)
        if has_ended:
            assert is_whole
            assert content == ""
            assert all(is_valid(*call) for call in calls)
            counts.add(len(calls))
    assert counts >= ({1} if at_most_one else {1, 2}) or thought != "none"
    assert not at_most_one or counts <= {1}


@pytest.mark.parametrize("thought", ["none", "possible", "open"])
def test_what_follows_a_mark_is_a_call(
    guidance: Guidance, tokenizer: PreTrainedTokenizerFast, thought: Thought
) -> None:
    """In running text, wherever tokens end; and not in a thought, which may talk of calls."""
    make = guidance.of_shape(Shape(functions=FUNCTIONS, thought=thought))
    called = said = 0
    for seed in range(16):
        text, has_ended = walk(make(), tokenizer, seed, likes_of(tokenizer))
        _, content, calls, is_whole = read(text, thought)
        if has_ended:
            assert "<tool_call>" not in content
            assert is_whole == bool(calls)
            assert all(is_valid(*call) for call in calls)
            called += bool(calls)
            said += bool(content)
    assert called or len(tokenizer) == 259, "marks of one token, or of two, come up"
    assert said or thought == "open"


@pytest.mark.parametrize("thought", ["none", "possible", "open"])
def test_an_answer_of_a_schema_or_calls(
    guidance: Guidance, tokenizer: PreTrainedTokenizerFast, thought: Thought
) -> None:
    """The answer is held to its schema where there is one, with functions beside it and without."""
    for functions in (FUNCTIONS, ()):
        make = guidance.of_shape(Shape(schema=ANSWER, functions=functions, thought=thought))
        for seed in SEEDS:
            text, has_ended = walk(make(), tokenizer, seed, likes_of(tokenizer))
            _, content, calls, _ = read(text, thought)
            if has_ended:
                assert bool(content) != bool(calls)
                assert not calls or functions
                assert content in ("", '{"ok":true}', '{"ok":false}')


def test_a_thought_is_free(guidance: Guidance, tokenizer: PreTrainedTokenizerFast) -> None:
    """The grammar begins behind it: before, all that is text may come, and the end may not."""
    grammar = guidance.of_shape(Shape(schema=ANSWER, thought="open"))()
    for byte in "我想<tool_call>{".encode():
        grammar.accept(byte_token(tokenizer, byte))
    assert len(allowed(grammar)) > 120
    assert tokenizer.eos_token_id not in allowed(grammar)
    for byte in b"</think>\n\n":
        grammar.accept(byte_token(tokenizer, byte))
    assert allowed(grammar) == [
        token
        for token in range(len(tokenizer))
        if token not in (256, 257, 258) and '{"ok":'.startswith(tokenizer.decode([token]))
    ]


@pytest.mark.parametrize("opening", ["<think>", "<think"])
def test_a_thought_may_talk_of_calls(
    guidance: Guidance, tokenizer: PreTrainedTokenizerFast, opening: str
) -> None:
    """What begins like a thought is one, if it goes on so; a mark in it begins no call."""
    grammar = guidance.of_shape(Shape(functions=FUNCTIONS, thought="possible"))()
    spelled = [byte_token(tokenizer, byte) for byte in "嗯<tool_call>".encode()]
    for token in [*tokenizer(opening)["input_ids"], *spelled]:
        grammar.accept(token)

    (line_end,) = tokenizer("\n")["input_ids"]
    assert (allowed(grammar) == [line_end]) == (opening == "<think")


def byte_token(tokenizer: PreTrainedTokenizerFast, byte: int) -> int:
    """The token that is this byte alone."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return int(tokenizer.convert_tokens_to_ids(bytes_to_unicode()[byte]))


@pytest.mark.parametrize("kind", ["string", ["string", "null"], None])
def test_arguments_are_an_object(guidance: Guidance, kind: Any) -> None:
    """A schema of something else is refused, and its function named."""
    functions = (*FUNCTIONS, Function(name="odd", parameters={"type": kind}))
    with pytest.raises(GrammarInvalid, match="object") as caught:
        guidance.of_shape(Shape(functions=functions))
    assert caught.value.function == 2


def test_a_schema_that_may_be_an_object_is_one(
    guidance: Guidance, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Also where it says nothing of it."""
    for parameters in ({}, {"type": ["object", "null"], "properties": {}, "maxProperties": 0}):
        one = Function(name="now", parameters={**parameters, "additionalProperties": False})
        grammar = guidance.of_shape(Shape(functions=(one,), must_call=True, at_most_one=True))()
        text, has_ended = walk(grammar, tokenizer, 0)
        assert has_ended
        assert text == '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


def test_the_clients_options_for_the_compiler_are_not_used(
    guidance: Guidance, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Free white space would let a model go on for ever."""
    schema = ANSWER | {"x-guidance": {"whitespace_flexible": True}}
    text, _ = walk(guidance.of_shape(Shape(schema=schema))(), tokenizer, 0)

    assert text in ('{"ok":true}', '{"ok":false}')
