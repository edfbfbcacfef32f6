"""Items to the messages of a chat."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from server.responses.items import Placed
from server.responses.turns import exchanges, turns_of, without_oldest
from server.wire.chat import AssistantMessage, DeveloperMessage, Message, ToolMessage, UserMessage
from server.wire.response_objects import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputText,
    Item,
    ReasoningItem,
    ReasoningText,
)
from server.wire.response_objects import Message as MessageItem
from server.wire.tools import GivenFunctionCall, GivenToolCall
from tests.server.responses.made import answered, said


def thought(*texts: str) -> ReasoningItem:
    return ReasoningItem(id="rs", content=[ReasoningText(text=text) for text in texts])


def call(name: str) -> FunctionCallItem:
    return FunctionCallItem(id=name, call_id=f"call_{name}", name=name, arguments="{}")


def output(name: str) -> FunctionCallOutputItem:
    return FunctionCallOutputItem(id=f"o{name}", call_id=f"call_{name}", output="3")


def messages(items: Sequence[Item]) -> list[Message]:
    placed = [Placed(item, f"input[{index}]") for index, item in enumerate(items)]
    return [turn.message for turn in turns_of(placed)]


def called(*names: str) -> list[GivenToolCall]:
    return [
        GivenToolCall(id=f"call_{name}", function=GivenFunctionCall(name=name, arguments="{}"))
        for name in names
    ]


def test_thoughts_text_and_calls_of_a_turn_are_one_message() -> None:
    """As the model wrote them, so that they are found in the cache; outputs answer them."""
    items = [said("1", "问"), thought("想一", "想"), answered("2", "好"), call("a"), call("b")]

    assert messages([*items, output("a"), output("b"), answered("3", "完")]) == [
        UserMessage(content="问"),
        AssistantMessage(content="好", reasoning_content="想一\n想", tool_calls=called("a", "b")),
        ToolMessage(content="3", tool_call_id="call_a"),
        ToolMessage(content="3", tool_call_id="call_b"),
        AssistantMessage(content="完"),
    ]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([answered("1", "一"), answered("2", "二")], ["一", "二"]),
        ([call("a"), answered("2", "二")], [None, "二"]),
        ([answered("1", "一"), thought("想")], ["一", None]),
        ([call("a"), thought("想"), call("b")], [None, None]),
        ([thought("想"), call("a")], [None]),
        ([thought("想")], [None]),
        ([thought(), thought("")], []),
        ([thought(), answered("1", "")], [""]),
    ],
    ids=lambda value: str(len(value)),
)
def test_a_turn_is_thoughts_then_text_then_calls(
    items: list[Item], expected: list[str | None]
) -> None:
    """Whatever comes in another order begins a new message; what says nothing makes none."""
    assert [message.content for message in messages(items)] == expected


def test_parts_are_joined_and_roles_kept() -> None:
    """By lines, as in a chat."""
    parts: list[InputText] = [InputText(text="一"), InputText(text="二")]
    item = MessageItem(id="1", role="developer", content=[*parts])

    assert messages([item]) == [DeveloperMessage(content="一\n二")]


def left(items: Sequence[Item], dropped: int) -> list[str]:
    """Where the turns come from that are left."""
    placed = [Placed(item, item.id) for item in items]
    return [turn.where for turn in without_oldest(list(turns_of(placed)), dropped)]


def test_the_oldest_turns_go_and_what_the_system_says_stays() -> None:
    """A turn goes with its calls and what they came to, so that none is left without the other."""
    rule = MessageItem(id="s", role="system", content=[InputText(text="你是猫。")])
    late = MessageItem(id="d", role="developer", content=[InputText(text="短一点。")])
    items = [rule, said("1"), call("a"), output("a"), answered("2"), late, said("3"), answered("4")]

    assert exchanges(list(turns_of([Placed(item, "input") for item in items]))) == 2
    assert left(items, 0) == ["s", "1", "a", "oa", "2", "d", "3", "4"]
    assert left(items, 1) == ["s", "d", "3", "4"]


def test_an_answer_without_a_question_is_a_turn_too() -> None:
    """Where a conversation begins with the assistant."""
    items = [answered("1"), said("2"), answered("3"), said("4")]

    assert exchanges(list(turns_of([Placed(item, "input") for item in items]))) == 3
    assert left(items, 1) == ["2", "3", "4"]
    assert exchanges([]) == 0
