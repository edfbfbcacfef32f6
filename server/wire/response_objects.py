"""What the responses API answers with: a response, the items in it, and lists of items."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from server.wire.completions import TokenLogprob
from server.wire.responses import (
    FunctionTool,
    ItemStatus,
    Reasoning,
    ResponseToolChoice,
    TextConfig,
    Truncation,
)

ResponseStatus = Literal["in_progress", "completed", "incomplete", "failed"]


class InputText(Struct, frozen=True, kw_only=True, tag_field="type", tag="input_text"):
    """A piece of what someone said to the model."""

    text: str


class OutputText(Struct, frozen=True, kw_only=True, tag_field="type", tag="output_text"):
    """A piece of what the model said. ``annotations`` are part of the shape; there are none.

    ``logprobs`` has an entry for each token if they were asked for, and is empty otherwise.
    """

    text: str
    annotations: list[Any] = []
    logprobs: list[TokenLogprob] = []


class ReasoningText(Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning_text"):
    """A piece of what the model thought."""

    text: str


class Message(Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """What someone said; ``output_text`` is the model's."""

    id: str
    role: Literal["user", "assistant", "system", "developer"]
    status: ItemStatus = "completed"
    content: list[InputText | OutputText]


class ReasoningItem(Struct, frozen=True, kw_only=True, tag_field="type", tag="reasoning"):
    """What the model thought before it answered. There is never a ``summary``."""

    id: str
    status: ItemStatus = "completed"
    summary: list[Any] = []
    content: list[ReasoningText]


class FunctionCallItem(Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call"):
    """A call that the model makes; an item ``function_call_output`` answers it by ``call_id``.

    ``arguments`` is JSON, as text.
    """

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus = "completed"


class FunctionCallOutputItem(
    Struct, frozen=True, kw_only=True, tag_field="type", tag="function_call_output"
):
    """What a call came to."""

    id: str
    call_id: str
    output: str
    status: ItemStatus = "completed"


OutputItem = Message | ReasoningItem | FunctionCallItem
Item = OutputItem | FunctionCallOutputItem


class InputTokensDetails(Struct, frozen=True, kw_only=True):
    """``cached_tokens`` did not have to be computed again; remembering tokens costs nothing."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputTokensDetails(Struct, frozen=True, kw_only=True):
    """How many of the tokens are thoughts."""

    reasoning_tokens: int


class ResponseUsage(Struct, frozen=True, kw_only=True):
    """Token counts of one response."""

    input_tokens: int
    input_tokens_details: InputTokensDetails
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    total_tokens: int


class ResponseError(Struct, frozen=True, kw_only=True):
    """Why a response failed."""

    code: Literal["server_error"] = "server_error"
    message: str


class IncompleteDetails(Struct, frozen=True, kw_only=True):
    """Why a response ends early."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


class ResponseObject(Struct, frozen=True, kw_only=True):
    """A response, and what it was asked with.

    ``access_programs`` is part of the shape and always null. ``temperature``, ``top_p`` and
    ``max_output_tokens`` are those that hold, the model's own defaults included. ``store``
    tells whether others can go on from it.
    """

    id: str
    object: Literal["response"] = "response"
    access_programs: None = None
    created_at: int
    completed_at: int | None = None
    status: ResponseStatus
    background: Literal[False] = False
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    output: list[OutputItem]
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: Reasoning
    safety_identifier: str | None
    service_tier: Literal["default"] = "default"
    store: bool
    temperature: float
    text: TextConfig
    tool_choice: ResponseToolChoice
    tools: list[FunctionTool]
    top_logprobs: int
    top_p: float
    truncation: Truncation = "disabled"
    usage: ResponseUsage | None = None
    user: str | None
    metadata: dict[str, str]


class ResponseDeleted(Struct, frozen=True, kw_only=True):
    """The response is kept no longer."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


class ItemList(Struct, frozen=True, kw_only=True):
    """Items of a response, a page of them. The ids are null where there is none."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool
