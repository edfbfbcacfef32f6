"""Records: the shapes that are understood, what is no error but cannot be used, and what is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from training.data.dialogue import RawDialogue
from training.data.records import dialogue_of, parse_dialogue
from training.data.stream import Malformed, parse

USER, ASSISTANT = "user", "assistant"


def message(role: str, content: object) -> dict[str, object]:
    return {"role": role, "content": content}


def line(speaker: str, value: object) -> dict[str, object]:
    return {"from": speaker, "value": value}


READ: dict[str, tuple[Any, RawDialogue]] = {
    "a list": (["a", "b"], RawDialogue(["a", "b"])),
    "LCCC on the Hub": ({"dialog": ["a", "b"]}, RawDialogue(["a", "b"])),
    "OpenAI": (
        {"messages": [message("user", "a"), message("assistant", "b")]},
        RawDialogue(["a", "b"], [USER, ASSISTANT]),
    ),
    "ShareGPT": (
        {"conversations": [line("human", "a"), line("gpt", "b"), line("human", "c")]},
        RawDialogue(["a", "b", "c"], [USER, ASSISTANT, USER]),
    ),
    "roles in capitals, under another key": (
        {"conversation": [line("Human", "a"), message("Assistant", "b")]},
        RawDialogue(["a", "b"], [USER, ASSISTANT]),
    ),
    "system prompts": (
        {"system": "x", "messages": [message("system", "y"), message("developer", "z")]},
        RawDialogue([], [], "x\ny\nz"),
    ),
    "an empty system prompt": (
        {"messages": [message("system", ""), message("user", "a")]},
        RawDialogue(["a"], [USER]),
    ),
    "Alpaca": (
        {"instruction": "a", "input": "b", "output": "c"},
        RawDialogue(["a\nb", "c"], [USER, ASSISTANT]),
    ),
    "Alpaca with what LLaMA-Factory knows": (
        {
            "instruction": "c",
            "input": "",
            "output": "d",
            "system": "x",
            "history": [["a", "b"]],
        },
        RawDialogue(["a", "b", "c", "d"], [USER, ASSISTANT] * 2, "x"),
    ),
    "Alpaca with nulls": (
        {"instruction": "a", "input": None, "output": "b", "system": None, "history": None},
        RawDialogue(["a", "b"], [USER, ASSISTANT]),
    ),
    "a prompt and its completion": (
        {"prompt": "a", "completion": "b", "input": "not part of it"},
        RawDialogue(["a", "b"], [USER, ASSISTANT]),
    ),
    "the same as messages": (
        {"prompt": [message("user", "a")], "completion": [message("assistant", "b")]},
        RawDialogue(["a", "b"], [USER, ASSISTANT]),
    ),
    "a query and its response": (
        {"query": "a", "response": "b"},
        RawDialogue(["a", "b"], [USER, ASSISTANT]),
    ),
    "parts of text": (
        {"messages": [message("user", [{"type": "text", "text": t} for t in "ab"])]},
        RawDialogue(["ab"], [USER]),
    ),
    "no calls in spite of the key": (
        {"messages": [message("assistant", "a") | {"tool_calls": []}]},
        RawDialogue(["a"], [ASSISTANT]),
    ),
}

UNUSABLE: dict[str, tuple[list[Any], str]] = {
    "an image": (
        [message("user", [{"type": "image_url", "image_url": {}}])],
        "messages[0] is not text alone",
    ),
    "a call": (
        [message("user", "a"), message("assistant", None) | {"tool_calls": [{}]}],
        "messages[1] is not text alone",
    ),
    "an old call": (
        [message("assistant", "a") | {"function_call": {"name": "f"}}],
        "messages[0] is not text alone",
    ),
    "no content": ([message("assistant", None)], "messages[0] is not text alone"),
    "a tool's answer": ([message("tool", "a")], "messages[0] is of the role 'tool'"),
    "a system prompt later": (
        [message("user", "a"), message("system", "b")],
        "messages[1] is of the role 'system' after the first",
    ),
}

MALFORMED: dict[str, tuple[Any, str]] = {
    "a number": (5.0, "expected a list of utterances, found a number"),
    "no known key": ({"text": []}, 'has no key "dialog", "messages" or "conversations"'),
    "a question without an answer": ({"instruction": "a"}, '"instruction" with "output"'),
    "several answers": (
        {"instruction": "a", "output": ["b", "c"]},
        "output is a list, not a string",
    ),
    "a history of no pairs": (
        {"instruction": "a", "output": "b", "history": [["a"]]},
        r"history\[0\] is no pair of texts",
    ),
    "messages that are no list": ({"messages": "a"}, "messages is a string, not a list"),
    "a message that is none": ({"messages": ["a"]}, r"messages\[0\] is a string, not a message"),
    "no role": ({"messages": [{"content": "a"}]}, r"messages\[0\] has no role"),
    "a role that is none": ({"messages": [message(None, "a")]}, r"messages\[0\] has no role"),  # type: ignore[arg-type]
    "a number for text": (
        {"conversations": [line("human", "a"), line("gpt", 2.0)]},
        r"conversations\[1\] is a number, not a string",
    ),
}


@pytest.mark.parametrize(("record", "dialogue"), READ.values(), ids=READ)
def test_the_usual_shapes_are_understood(record: object, dialogue: RawDialogue) -> None:
    """With roles and the system prompt where the record has them."""
    assert dialogue_of(record) == dialogue


@pytest.mark.parametrize(("messages", "fault"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_is_not_a_dialogue_of_texts_is_no_error(messages: list[Any], fault: str) -> None:
    """It is read without its text, and says which message is to blame."""
    assert dialogue_of({"messages": messages}) == RawDialogue([], fault=fault)


@pytest.mark.parametrize(("record", "said"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_record_is_refused_with_its_place(record: object, said: str) -> None:
    """Counted from 0, as in `messages[2]`."""
    with pytest.raises(Malformed, match=said):
        dialogue_of(record)


@pytest.mark.parametrize(
    "line",
    [
        b'["a", "\\ud83d\\ude02"]',
        b'["\\ud83d"]',
        b'["\\udc00x"]',
        b' ["a"] \r\n',
        b'\xc2\xa0["a"]',
        b'{"dialog": ["a"], "dialog": ["b"]}',
        b'{"dialog": ["a"], "n": 1e999}',
        b'{"messages": [{"role": "user", "content": "a"}]}',
        b'["a", 1]',
        b'["a\x01"]',
        b'["\xff"]',
        b'{"dialog": "a"}',
        b'["a",]',
        b"[1e9999]",
        b"[" * 2000,
    ],
)
def test_a_line_is_read_as_its_json(line: bytes) -> None:
    """The quick decoder and the one that says what is wrong agree, in errors too."""

    def slowly(line: bytes) -> RawDialogue:
        return dialogue_of(parse(line.decode("utf-8").strip()))

    def told(read: Callable[[bytes], RawDialogue]) -> object:
        try:
            return read(line)
        except (Malformed, UnicodeDecodeError) as error:
            return str(error)

    assert told(parse_dialogue) == told(slowly)
