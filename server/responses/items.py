"""The items that a response answers: from what a request gives to what is kept and rendered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from server.responses.ids import new_id
from server.responses.store import ResponseStore
from server.wire.errors import InvalidRequest, NotKept
from server.wire.response_objects import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputText,
    Item,
    Message,
    OutputText,
    ReasoningItem,
    ReasoningText,
)
from server.wire.responses import (
    GivenFunctionCallItem,
    GivenFunctionCallOutput,
    GivenInputText,
    GivenMessage,
    GivenOutputText,
    GivenReasoning,
    InputItem,
    ItemReference,
    ResponsesRequest,
)


class Placed(NamedTuple):
    """An item, and which parameter of the request it comes from."""

    item: Item
    where: str


def items_of(asked: ResponsesRequest, store: ResponseStore) -> list[Placed]:
    """Everything since the conversation began: that of the previous response, then the new.

    Raises:
        InvalidRequest: it goes on from a response, or names an item, that is not kept, or names one
            twice.
    """
    placed = _previous(asked.previous_response_id, store)
    if isinstance(asked.input, str):
        text = InputText(text=asked.input)
        return [*placed, Placed(Message(id=new_id("msg"), role="user", content=[text]), "input")]
    known = {each.item.id for each in placed}
    for index, given in enumerate(asked.input):
        new = Placed(_item(given, store, f"input[{index}]"), f"input[{index}]")
        if new.item.id in known:
            param = f"{new.where}.id"
            raise InvalidRequest(f"{param}: this item is in the conversation already.", param)
        known.add(new.item.id)
        placed.append(new)
    return placed


def _previous(id: str | None, store: ResponseStore) -> list[Placed]:  # noqa: A002 - the wire's name
    if id is None:
        return []
    kept = store.get(id)
    if kept is None:
        raise InvalidRequest(
            f"previous_response_id: no response {id!r} is kept: it was never made here, made with "
            "store: false, deleted, or gone to make room. Send the whole conversation as input.",
            "previous_response_id",
            "previous_response_not_found",
        )
    return [Placed(item, "previous_response_id") for item in kept.conversation]


def _item(given: InputItem, store: ResponseStore, where: str) -> Item:
    """With an id of our own, whatever the client calls it."""
    match given:
        case GivenMessage():
            return _message(given)
        case GivenFunctionCallItem(call_id=call_id, name=name, arguments=arguments):
            return FunctionCallItem(
                id=new_id("fc"), call_id=call_id, name=name, arguments=arguments
            )
        case GivenFunctionCallOutput(call_id=call_id, output=output):
            text = output if isinstance(output, str) else joined(output)
            return FunctionCallOutputItem(id=new_id("fco"), call_id=call_id, output=text)
        case GivenReasoning(content=content):
            texts = [ReasoningText(text=part.text) for part in content or ()]
            return ReasoningItem(id=new_id("rs"), content=texts)
        case ItemReference(id=id):
            item = store.item(id)
            if item is None:
                param = f"{where}.id"
                raise NotKept(f"{param}: no item {id!r} is kept. Send the item itself.", param)
            return item


def _message(given: GivenMessage) -> Message:
    texts = [given.content] if isinstance(given.content, str) else [p.text for p in given.content]
    is_said = given.role == "assistant"
    return Message(
        id=new_id("msg"),
        role=given.role,
        content=[OutputText(text=text) if is_said else InputText(text=text) for text in texts],
    )


def joined(
    parts: Sequence[GivenInputText | GivenOutputText | InputText | OutputText | ReasoningText],
) -> str:
    """The text of several parts, by lines as in a chat."""
    return "\n".join(part.text for part in parts)
