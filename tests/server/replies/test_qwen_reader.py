"""Replies in Qwen's format as parts: the same however they are cut, and nothing of them lost."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.engine.types import Thought
from server.replies.call_reader import new_id
from server.replies.parts import ArgumentsPart, CallPart, ContentPart, Part
from server.replies.qwen_reader import QwenReader
from tests.server.reading import Read, read

FUNCTIONS = ("get_weather", "now")
THOUGHTS: list[Thought] = ["none", "possible", "open"]
ARGUMENTS = '{"city": "北京", "note": "}</tool_call>\\"{ <tool_call>", "days": [{"n": 1}]}'


def call(name: str = "get_weather", arguments: str = ARGUMENTS) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def whole(text: str, thought: Thought = "none", functions: tuple[str, ...] = FUNCTIONS) -> Read:
    return read(QwenReader(thought=thought, functions=functions), [text])


def cut(text: str, cuts: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    return [text[a:b] for a, b in itertools.pairwise(edges)]


SNIPPETS = st.sampled_from(
    [
        *("<think>", "</think>", "<tool_call>", "</tool_call>", "</", "<", "think>", "\n", "\n\n"),
        *(call(), call("now", "{}"), call("other", "{}"), call("now", "{"), call("now", "[1]")),
        *('{"name": "now"', ', "arguments": ', "{}", "}", '"', "\\", " ", "　", "你好", "a", "嗯"),
        '<tool_call>{"arguments":{"a":1},"name":"now"}</tool_call>',
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    text=st.lists(SNIPPETS, max_size=8).map("".join),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    thought=st.sampled_from(THOUGHTS),
    functions=st.sampled_from([FUNCTIONS, ()]),
)
@example(text="<think>\n嗯\n\n</think>\n\n好", cuts=[], thought="possible", functions=())
@example(
    text=f'<tool_call>{" " * 300}{{"name": "now", "arguments": {{"a": 1',
    cuts=[],
    thought="none",
    functions=FUNCTIONS,
)
def test_the_parts_do_not_depend_on_where_a_reply_is_cut(
    text: str, cuts: list[int], thought: Thought, functions: tuple[str, ...]
) -> None:
    """Into single characters, or anywhere: a stream says what the whole says."""
    expected = whole(text, thought, functions)

    for pieces in (list(text), cut(text, cuts)):
        assert read(QwenReader(thought=thought, functions=functions), pieces) == expected


@settings(max_examples=200, deadline=None)
@given(text=st.lists(SNIPPETS, max_size=8).map("".join))
def test_without_calls_and_thoughts_all_is_content(text: str) -> None:
    """Every character, marks and all, where there is nothing to call and nothing to think."""
    assert whole(text, "none", ()).content == text


@settings(max_examples=200, deadline=None)
@given(
    words=st.lists(st.sampled_from(["你好", "a b", "<", "<tool", "\n", " ", "{", "<think>"])),
    end=st.sampled_from(["", "<tool_call>", call()[:20], call("other", "{}"), call("now", "[]")]),
)
def test_what_is_no_call_is_content(words: list[str], end: str) -> None:
    """In its place, white space included: unknown functions, no objects, calls cut off early."""
    text = "".join([*words, end])

    assert whole(text) == Read(content=text, order="c" if text else "")


def test_a_thought_an_answer_and_calls() -> None:
    """What each of them says, without marks, and without the white space between them."""
    text = f"<think>\n我\n想\n\n</think>\n\n看看\n{call()}\n{call('now', '{}')}\n"

    done = whole(text, "possible")

    assert (done.reasoning, done.content) == ("我\n想", "看看")
    assert done.calls == [("get_weather", ARGUMENTS), ("now", "{}")]
    assert (done.order, done.has_calls) == ("rcfafa", True)
    json.loads(done.calls[0][1])


@pytest.mark.parametrize(
    ("text", "thought", "reasoning", "content"),
    [
        ("\n嗯\n</think>\n\n好", "open", "嗯", "好"),
        ("</think>好", "open", "", "好"),
        ("\n\n</think>\n\n好", "open", "", "好"),
        ("嗯", "open", "嗯", ""),
        ("嗯\n</thi", "open", "嗯\n</thi", ""),
        ("嗯</think></think>", "open", "嗯", "</think>"),
        ("<think>嗯</think>好", "open", "<think>嗯", "好"),
        ("好</think>", "possible", "", "好</think>"),
        ("\n好", "possible", "", "\n好"),
        ("<thi", "possible", "", "<thi"),
        ("<think>", "possible", "", ""),
        ("a<think>b</think>", "possible", "", "a<think>b</think>"),
        ("<think>嗯</think>好", "none", "", "<think>嗯</think>好"),
    ],
)
def test_where_a_thought_begins_and_ends(
    text: str, thought: Thought, reasoning: str, content: str
) -> None:
    """In the prompt or with its mark at the very beginning; it may not end at all."""
    done = whole(text, thought)

    assert (done.reasoning, done.content) == (reasoning, content)


def test_arguments_come_as_they_are_written() -> None:
    """The name as soon as it is certain, then every piece of the arguments at once."""
    reader = QwenReader(functions=FUNCTIONS, make_id=lambda: "call_1")
    assert reader.feed('<tool_call>\n{"name": "now", "argu') == []
    told: list[list[Part]] = [reader.feed(piece) for piece in ('ments": {', '"a"', ": 1", "}}\n</")]

    assert told == [
        [CallPart(0, "call_1", "now"), ArgumentsPart(0, "{")],
        [ArgumentsPart(0, '"a"')],
        [ArgumentsPart(0, ": 1")],
        [ArgumentsPart(0, "}")],
    ]
    assert reader.feed("tool_call>") == []
    assert reader.feed("\n\n好") == [ContentPart("好")]
    assert reader.has_calls is True


def test_a_call_that_is_cut_off_is_told_so_far_and_does_not_count() -> None:
    """The end of its arguments is missing: its reader must not take it for one to be answered."""
    done = whole(call()[:60])

    assert done.calls == [("get_weather", ARGUMENTS[: 60 - call().index(ARGUMENTS)])]
    assert not done.has_calls
    assert whole(call()[:-10]).has_calls is True, "its arguments are whole"


@pytest.mark.parametrize(
    "added", [", more\n</tool_call>", "}\n</tool _call>", "} }", "}<tool_call>"]
)
def test_what_stands_in_a_call_behind_its_arguments_is_content(added: str) -> None:
    """A client sees what the model has added."""
    done = whole(call("now", "{}").replace("}\n</tool_call>", added))

    assert done.calls == [("now", "{}")]
    assert done.content == added


@pytest.mark.parametrize(
    "text",
    [
        '<tool_call>{"arguments": {"a": {"b": "</"}}, "name": "now"}</tool_call>',
        '<tool_call>\n\n{ "id": 1, "name" : "now", "arguments" : {"a": {"b": "</"}} }</tool_call>',
        '<tool_call>{"name": "n\\u006fw", "arguments": {"a": {"b": "</"}}}</tool_call>',
        "<tool_call>" + " " * 300 + '{"name": "now", "arguments": {"a": {"b": "</"}}}</tool_call>',
    ],
)
def test_a_call_in_unusual_order_or_spelling_is_one(text: str) -> None:
    """It is told at its end."""
    done = whole(text)

    assert [(name, json.loads(found)) for name, found in done.calls] == [
        ("now", {"a": {"b": "</"}})
    ]
    assert (done.content, done.has_calls) == ("", True)


@pytest.mark.parametrize(
    "text",
    [
        "<tool_call>" * 10_000,
        "<tool_call></tool_call>" * 5_000,
        "<tool_call>" + "{" * 100_000,
        "<tool_call>" + " " * 100_000,
        "\n" * 100_000,
        "<" * 100_000,
        f"{call('now', '{}')}\n" * 2_000,
    ],
    ids=lambda text: text[:24],
)
def test_long_replies_take_no_longer_than_their_length(text: str) -> None:
    """In small pieces and at once; work that grew much faster would not end before the timeout."""
    pieces = (text[at : at + 9] for at in range(0, len(text), 9))
    done = read(QwenReader(functions=FUNCTIONS), pieces)

    assert done.content == whole(text).content
    assert done.content == text or done.calls == [("now", "{}")] * 2_000


def test_ids_differ() -> None:
    """Each call has its own."""
    ids = {new_id() for _ in range(100)}

    assert len(ids) == 100
    assert all(one.startswith("call_") for one in ids)
