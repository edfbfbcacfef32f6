"""Responses that others can go on from, in memory, as many as there is room for.

Whoever knows the id of a response can read it, go on from it and delete it. So ids are random
(:func:`server.responses.ids.new_id`), and nothing lists them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from server.wire.response_objects import (
    FunctionCallItem,
    InputText,
    Item,
    Message,
    OutputText,
    ResponseObject,
)


class Kept(msgspec.Struct, frozen=True):
    """A response, and the items that it answered: all since the conversation began."""

    response: ResponseObject
    items: list[Item]

    @property
    def conversation(self) -> list[Item]:
        """What a next response goes on from: no logprobs, and no call that was cut off."""
        return [*self.items, *(_bare(item) for item in self.response.output if _is_usable(item))]


def _bare(item: Item) -> Item:
    if not isinstance(item, Message):
        return item
    content: list[InputText | OutputText] = [OutputText(text=part.text) for part in item.content]
    return replace(item, content=content)


def _is_usable(item: Item) -> bool:
    """Whether it is whole, or text, of which a part is worth something too."""
    return not (isinstance(item, FunctionCallItem) and item.status == "incomplete")


@dataclass(frozen=True)
class _Entry:
    """The same as JSON, with the ids of its items."""

    encoded: bytes
    item_ids: tuple[str, ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Kept).decode


class ResponseStore:
    """Keeps the responses that were used last: at most ``most``, of ``most_bytes`` in all.

    A response does not need those before it: it holds the whole conversation, and as JSON it is
    kept and measured.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._owners: dict[str, dict[str, None]] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def is_off(self) -> bool:
        """True where nothing is ever kept."""
        return not self._most

    def put(self, items: Sequence[Item], response: ResponseObject) -> bool:
        """Keep a response to ``items``; ``False`` if there is no room for it at all.

        Those that were not used for the longest time go.
        """
        kept = Kept(response, list(items))
        item_ids = dict.fromkeys(item.id for item in kept.conversation)
        entry = _Entry(_encode(kept), tuple(item_ids))
        if self.is_off or len(entry.encoded) > self._most_bytes:
            return False
        self._entries[response.id] = entry
        self.size += len(entry.encoded)
        for item_id in entry.item_ids:
            self._owners.setdefault(item_id, {})[response.id] = None
        while len(self._entries) > self._most or self.size > self._most_bytes:
            self.delete(next(iter(self._entries)))
        return True

    def get(self, id: str) -> Kept | None:  # noqa: A002 - the wire's name
        """The response of this id, which counts as a use of it."""
        entry = self._entries.get(id)
        if entry is None:
            return None
        self._entries.move_to_end(id)
        return _decode(entry.encoded)

    def item(self, id: str) -> Item | None:  # noqa: A002 - the wire's name
        """An item of a response that is kept, which counts as a use of one that has it."""
        owners = self._owners.get(id)
        kept = self.get(next(reversed(owners))) if owners else None
        return next(item for item in kept.conversation if item.id == id) if kept else None

    def delete(self, id: str) -> bool:  # noqa: A002 - the wire's name
        """Forget a response; ``False`` if there is none of this id."""
        entry = self._entries.pop(id, None)
        if entry is None:
            return False
        self.size -= len(entry.encoded)
        for item_id in entry.item_ids:
            owners = self._owners[item_id]
            del owners[id]
            if not owners:
                del self._owners[item_id]
        return True
