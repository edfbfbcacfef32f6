"""The events of a streamed response, in the order of their ``sequence_number``."""

from __future__ import annotations

from msgspec import Struct

from server.wire.completions import TokenLogprob
from server.wire.response_objects import OutputItem, OutputText, ReasoningText, ResponseObject


class ResponseEvent(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Something that happens in a stream; the numbers begin with 0 and leave none out."""

    sequence_number: int

    @classmethod
    def event_name(cls) -> str:
        """What the stream calls it."""
        return str(cls.__struct_config__.tag)


class ResponseCreated(ResponseEvent, frozen=True, kw_only=True, tag="response.created"):
    """The first event: the response, empty."""

    response: ResponseObject


class ResponseInProgress(ResponseEvent, frozen=True, kw_only=True, tag="response.in_progress"):
    """The second event: it is being written."""

    response: ResponseObject


class ItemAdded(ResponseEvent, frozen=True, kw_only=True, tag="response.output_item.added"):
    """An item begins; the events up to its end fill it."""

    output_index: int
    item: OutputItem


class PartAdded(ResponseEvent, frozen=True, kw_only=True, tag="response.content_part.added"):
    """A part of an item begins."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputText | ReasoningText


class TextDelta(ResponseEvent, frozen=True, kw_only=True, tag="response.output_text.delta"):
    """More of what is said, with the logprobs of its tokens if they were asked for."""

    item_id: str
    output_index: int
    content_index: int
    delta: str
    logprobs: list[TokenLogprob]


class TextDone(ResponseEvent, frozen=True, kw_only=True, tag="response.output_text.done"):
    """All that was said."""

    item_id: str
    output_index: int
    content_index: int
    text: str
    logprobs: list[TokenLogprob]


class ReasoningDelta(ResponseEvent, frozen=True, kw_only=True, tag="response.reasoning_text.delta"):
    """More of what is thought."""

    item_id: str
    output_index: int
    content_index: int
    delta: str


class ReasoningDone(ResponseEvent, frozen=True, kw_only=True, tag="response.reasoning_text.done"):
    """All that was thought."""

    item_id: str
    output_index: int
    content_index: int
    text: str


class ArgumentsDelta(
    ResponseEvent, frozen=True, kw_only=True, tag="response.function_call_arguments.delta"
):
    """More of a call's arguments."""

    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(
    ResponseEvent, frozen=True, kw_only=True, tag="response.function_call_arguments.done"
):
    """All arguments of a call."""

    item_id: str
    output_index: int
    name: str
    arguments: str


class PartDone(ResponseEvent, frozen=True, kw_only=True, tag="response.content_part.done"):
    """A part of an item is whole."""

    item_id: str
    output_index: int
    content_index: int
    part: OutputText | ReasoningText


class ItemDone(ResponseEvent, frozen=True, kw_only=True, tag="response.output_item.done"):
    """An item is whole, or cut off where its status says so."""

    output_index: int
    item: OutputItem


class ResponseCompleted(ResponseEvent, frozen=True, kw_only=True, tag="response.completed"):
    """The last event of a response that is whole."""

    response: ResponseObject


class ResponseIncomplete(ResponseEvent, frozen=True, kw_only=True, tag="response.incomplete"):
    """The last event of a response that ran out of tokens."""

    response: ResponseObject


class ResponseFailed(ResponseEvent, frozen=True, kw_only=True, tag="response.failed"):
    """The last event of a response that broke off; its ``error`` says why."""

    response: ResponseObject


EVENTS: tuple[type[ResponseEvent], ...] = (
    ResponseCreated,
    ResponseInProgress,
    ItemAdded,
    PartAdded,
    TextDelta,
    TextDone,
    ReasoningDelta,
    ReasoningDone,
    ArgumentsDelta,
    ArgumentsDone,
    PartDone,
    ItemDone,
    ResponseCompleted,
    ResponseIncomplete,
    ResponseFailed,
)
