"""Items to the messages of a chat."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from server.responses.items import Placed
from server.responses.turns import turns_of
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
