"""From the parts of a reply to the items of a response, and to the events that show them grow.

A response that is answered whole has the items of one that is streamed, because both are written
here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import count

from server.replies.parts import ArgumentsPart, CallPart, ContentPart, Part, ReasoningPart
from server.responses.ids import new_id
from server.wire.completions import TokenLogprob
from server.wire.response_events import (
    ArgumentsDelta,
    ArgumentsDone,
    ItemAdded,
    ItemDone,
    PartAdded,
    PartDone,
    ReasoningDelta,
    ReasoningDone,
    ResponseEvent,
    TextDelta,
    TextDone,
)
from server.wire.response_objects import (
    FunctionCallItem,
    Message,
    OutputItem,
    OutputText,
    ReasoningItem,
    ReasoningText,
)
from server.wire.responses import ItemStatus

Events = Iterator[ResponseEvent]


class _Open(ABC):
    """An item that grows: the ``index``-th of its response."""

    kind: str

    def __init__(self, index: int, numbers: Iterator[int]) -> None:
        self.id = new_id(self.kind)
        self.index = index
        self.text = ""
        self.numbers = numbers

    def begin(self) -> Events:
        yield ItemAdded(
            sequence_number=next(self.numbers), output_index=self.index, item=self.empty()
        )

    def end(self, status: ItemStatus) -> Events:
        yield ItemDone(
            sequence_number=next(self.numbers), output_index=self.index, item=self.item(status)
        )

    @abstractmethod
    def empty(self) -> OutputItem:
        """As it begins."""

    @abstractmethod
    def item(self, status: ItemStatus) -> OutputItem:
        """As far as it has come."""


class _OpenPart(_Open):
    """An item with one part of text."""

    @abstractmethod
    def part(self) -> OutputText | ReasoningText:
        """The part, as far as it has come."""

    def begin(self) -> Events:
        yield from super().begin()
        yield PartAdded(
            sequence_number=next(self.numbers),
            item_id=self.id,
            output_index=self.index,
            content_index=0,
            part=self.part(),
        )

    def end(self, status: ItemStatus) -> Events:
        yield PartDone(
            sequence_number=next(self.numbers),
            item_id=self.id,
            output_index=self.index,
            content_index=0,
            part=self.part(),
        )
        yield from super().end(status)


class _OpenMessage(_OpenPart):
    kind = "msg"

    def __init__(self, index: int, numbers: Iterator[int]) -> None:
        super().__init__(index, numbers)
        self.logprobs: list[TokenLogprob] = []

    def more(self, text: str, logprobs: Sequence[TokenLogprob]) -> Events:
        self.text += text
        self.logprobs += logprobs
        yield TextDelta(
            sequence_number=next(self.numbers),
            item_id=self.id,
            output_index=self.index,
            content_index=0,
            delta=text,
            logprobs=list(logprobs),
        )

    def end(self, status: ItemStatus) -> Events:
        yield TextDone(
            sequence_number=next(self.numbers),
            item_id=self.id,
            output_index=self.index,
            content_index=0,
            text=self.text,
            logprobs=list(self.logprobs),
        )
        yield from super().end(status)

    def part(self) -> OutputText:
        return OutputText(text=self.text, logprobs=list(self.logprobs))

    def empty(self) -> Message:
        return Message(id=self.id, role="assistant", status="in_progress", content=[])

    def item(self, status: ItemStatus) -> Message:
        return Message(id=self.id, role="assistant", status=status, content=[self.part()])


class _OpenReasoning(_OpenPart):
    kind = "rs"

    def more(self, text: str) -> Events:
        self.text += text
        yield ReasoningDelta(
            sequence_number=next(self.numbers),
            item_id=self.id,
            output_index=self.index,
            content_index=0,
            delta=text,
        )

    def end(self, status: ItemStatus) -> Events:
        yield ReasoningDone(
            sequence_number=next(self.numbers),
            item_id=self.id,
            output_index=self.index,
            content_index=0,
            text=self.text,
        )
        yield from super().end(status)

    def part(self) -> ReasoningText:
        return ReasoningText(text=self.text)

    def empty(self) -> ReasoningItem:
        return ReasoningItem(id=self.id, status="in_progress", content=[])

    def item(self, status: ItemStatus) -> ReasoningItem:
        return ReasoningItem(id=self.id, status=status, content=[self.part()])


class _OpenCall(_Open):
    kind = "fc"

    def __init__(self, index: int, numbers: Iterator[int], call: CallPart) -> None:
        super().__init__(index, numbers)
        self.call = call

    def more(self, text: str) -> Events:
        self.text += text
        yield ArgumentsDelta(
            sequence_number=next(self.numbers),
            item_id=self.id,
            output_index=self.index,
            delta=text,
        )

    def end(self, status: ItemStatus) -> Events:
        yield ArgumentsDone(
            sequence_number=next(self.numbers),
            item_id=self.id,
            output_index=self.index,
            name=self.call.name,
            arguments=self.text,
        )
        yield from super().end(status)

    def empty(self) -> FunctionCallItem:
        return self.item("in_progress")

    def item(self, status: ItemStatus) -> FunctionCallItem:
        return FunctionCallItem(
            id=self.id,
            call_id=self.call.id,
            name=self.call.name,
            arguments=self.text,
            status=status,
        )


class ItemWriter:
    """Writes the items of one response. ``numbers`` are those of its events."""

    def __init__(self) -> None:
        self.numbers: Iterator[int] = count()
        self._whole: list[OutputItem] = []
        self._open: _Open | None = None

    def items(self, status: ItemStatus = "in_progress") -> list[OutputItem]:
        """All there are; ``status`` is that of one which is not yet whole."""
        return [*self._whole, self._open.item(status)] if self._open else list(self._whole)

    def write(self, part: Part, logprobs: Sequence[TokenLogprob] = ()) -> list[ResponseEvent]:
        """What a part adds, with the logprobs that belong to it if it is content."""
        return list(self._write(part, logprobs))

    def end(self, status: ItemStatus, logprobs: Sequence[TokenLogprob] = ()) -> list[ResponseEvent]:
        """The end of the reply, which has one item at least; ``logprobs`` that nothing showed."""
        last: list[ResponseEvent] = []
        if not self.items() or (logprobs and isinstance(self._open, _OpenMessage)):
            last += self._write_content("", logprobs)
        return [*last, *self._end(status)]

    def _write(self, part: Part, logprobs: Sequence[TokenLogprob]) -> Events:
        match part:
            case ContentPart(text):
                yield from self._write_content(text, logprobs)
            case ReasoningPart(text):
                reasoning = self._open
                if not isinstance(reasoning, _OpenReasoning):
                    reasoning = _OpenReasoning(self._next_index, self.numbers)
                    yield from self._begin(reasoning)
                yield from reasoning.more(text)
            case CallPart():
                yield from self._begin(_OpenCall(self._next_index, self.numbers, part))
            case ArgumentsPart(text=text):
                assert isinstance(self._open, _OpenCall)
                yield from self._open.more(text)

    def _write_content(self, text: str, logprobs: Sequence[TokenLogprob]) -> Events:
        message = self._open
        if not isinstance(message, _OpenMessage):
            message = _OpenMessage(self._next_index, self.numbers)
            yield from self._begin(message)
        yield from message.more(text, logprobs)

    @property
    def _next_index(self) -> int:
        return len(self.items())

    def _begin(self, item: _Open) -> Events:
        yield from self._end("completed")
        self._open = item
        yield from item.begin()

    def _end(self, status: ItemStatus) -> Events:
        if self._open is not None:
            yield from self._open.end(status)
            self._whole.append(self._open.item(status))
            self._open = None
