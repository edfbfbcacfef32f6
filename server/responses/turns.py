"""Items as the messages of a chat: thoughts, text and calls of one turn are one message."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from server.responses.items import Placed, joined
from server.wire.chat import (
    AssistantMessage,
    DeveloperMessage,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from server.wire.chat import Message as ChatMessage
from server.wire.response_objects import (
    FunctionCallItem,
    FunctionCallOutputItem,
    Item,
    Message,
    ReasoningItem,
)
from server.wire.tools import GivenFunctionCall, GivenToolCall


@dataclass(frozen=True)
class Turn:
    """A message, and what its fields are called in the request that it comes from."""

    message: ChatMessage
    where: str
    names: dict[str, str] = field(default_factory=dict)


def turns_of(placed: Sequence[Placed]) -> Iterator[Turn]:
    """The messages that the items come to."""
    open_turn = _Reply()
    for item, where in placed:
        if not open_turn.takes(item):
            yield from open_turn.turns()
            open_turn = _Reply()
        if isinstance(item, FunctionCallOutputItem):
            message = ToolMessage(content=item.output, tool_call_id=item.call_id)
            yield Turn(message, where, {".tool_call_id": f"{where}.call_id", ".role": where})
        elif isinstance(item, Message) and item.role != "assistant":
            yield Turn(_said(item), where)
        else:
            open_turn.add(item, where)
    yield from open_turn.turns()


def _said(item: Message) -> ChatMessage:
    text = joined(item.content)
    match item.role:
        case "system":
            return SystemMessage(content=text)
        case "developer":
            return DeveloperMessage(content=text)
        case _:
            return UserMessage(content=text)


def exchanges(turns: Sequence[Turn]) -> int:
    """How many there are: messages of the user, each with all up to the next."""
    return max((number for number, _ in _numbered(turns)), default=-1) + 1


def without_oldest(turns: Sequence[Turn], dropped: int) -> list[Turn]:
    """All but the first ``dropped`` exchanges; what the system says stays."""
    return [turn for number, turn in _numbered(turns) if number >= dropped or _is_system(turn)]


def _numbered(turns: Sequence[Turn]) -> Iterator[tuple[int, Turn]]:
    number, has_begun = 0, False
    for turn in turns:
        number += has_begun and isinstance(turn.message, UserMessage)
        has_begun = has_begun or not _is_system(turn)
        yield number, turn


def _is_system(turn: Turn) -> bool:
    return isinstance(turn.message, SystemMessage | DeveloperMessage)


@dataclass
class _Reply:
    """The items of one turn of the assistant: thoughts, then a text, then calls."""

    thoughts: list[str] = field(default_factory=list)
    text: str | None = None
    calls: list[tuple[FunctionCallItem, str]] = field(default_factory=list)
    where: str = ""

    def takes(self, item: Item) -> bool:
        """Whether ``item`` goes on with this turn."""
        match item:
            case FunctionCallItem():
                return True
            case ReasoningItem():
                return self.text is None and not self.calls
            case Message(role="assistant"):
                return self.text is None and not self.calls
            case _:
                return False

    def add(self, item: Item, where: str) -> None:
        self.where = self.where or where
        match item:
            case ReasoningItem():
                self.thoughts += [part.text for part in item.content]
            case Message():
                self.text = joined(item.content)
            case FunctionCallItem():
                self.calls.append((item, where))

    def turns(self) -> Iterator[Turn]:
        """One turn, or none: items whose thoughts nobody can read make none."""
        if self.text is None and not self.calls and not any(self.thoughts):
            return
        message = AssistantMessage(
            content=self.text,
            reasoning_content="\n".join(self.thoughts) or None,
            tool_calls=[_call(item) for item, _ in self.calls] or None,
        )
        names = {
            f".tool_calls[{index}].function.arguments": f"{where}.arguments"
            for index, (_, where) in enumerate(self.calls)
        }
        if self.calls:
            names[".tool_calls"] = self.calls[0][1]
        yield Turn(message, self.where, names)


def _call(item: FunctionCallItem) -> GivenToolCall:
    function = GivenFunctionCall(name=item.name, arguments=item.arguments)
    return GivenToolCall(id=item.call_id, function=function)
