"""What a chat request is answered with: one completion, or a stream of chunks."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from server.wire.tools import ToolCall

EndReason = Literal["stop", "length"]
FinishReason = Literal[EndReason, "tool_calls"]


class PromptTokensDetails(Struct, frozen=True, kw_only=True):
    """``cached_tokens`` of the prompt did not have to be computed again."""

    cached_tokens: int


class CompletionTokensDetails(Struct, frozen=True, kw_only=True):
    """``reasoning_tokens`` of the completion led up to the end of the thoughts."""

    reasoning_tokens: int


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails
    completion_tokens_details: CompletionTokensDetails


class ReplyMessage(Struct, frozen=True, kw_only=True):
    """The assistant's reply; what it has none of is not there.

    ``content`` is null where there are thoughts or calls alone. ``refusal`` is part of the shape
    and always null.
    """

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class TopLogprob(Struct, frozen=True, kw_only=True):
    """A token that was likely in some place, and the natural logarithm of its probability.

    ``token`` alone may be a part of a character; ``bytes`` tell which.
    """

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct, frozen=True, kw_only=True):
    """A token of the reply; ``top_logprobs`` are the likeliest in its place, the first first."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class Logprobs(Struct, frozen=True, kw_only=True):
    """An entry for each token of the content, not of thoughts and calls.

    ``refusal`` is part of the shape and always null.
    """

    content: list[TokenLogprob]
    refusal: None = None


class ChatChoice(Struct, frozen=True, kw_only=True):
    """One reply and why it ended."""

    index: int = 0
    message: ReplyMessage
    logprobs: Logprobs | None = None
    finish_reason: FinishReason


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """The whole reply at once. ``system_fingerprint`` changes with the model's weights."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage


class FunctionDelta(Struct, frozen=True, kw_only=True):
    """The name comes first, with empty ``arguments``, which then grow."""

    name: str | UnsetType = UNSET
    arguments: str


class ToolCallDelta(Struct, frozen=True, kw_only=True):
    """What is new of the call ``index``; the first of it has an ``id``."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionDelta


class ChunkDelta(Struct, frozen=True, kw_only=True):
    """What is new: the role in the first chunk, then text, thoughts or calls; nothing at the end.

    ``content`` is null in the first chunk of a reply that begins with something else.
    """

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[ToolCallDelta] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True, kw_only=True):
    """The growing reply. ``finish_reason`` is null until the end."""

    index: int = 0
    delta: ChunkDelta
    logprobs: Logprobs | None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(Struct, frozen=True, kw_only=True):
    """One frame of a stream; all frames of a reply share ``id`` and ``created``.

    ``usage`` is present only with ``stream_options.include_usage``: null, and filled in a last
    chunk without choices.
    """

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
