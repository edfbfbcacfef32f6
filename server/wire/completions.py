"""What a chat request is answered with: one completion, or a stream of chunks."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

FinishReason = Literal["stop", "length"]


class PromptTokensDetails(Struct, frozen=True, kw_only=True):
    """``cached_tokens`` of the prompt did not have to be computed again."""

    cached_tokens: int


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class ReplyMessage(Struct, frozen=True, kw_only=True):
    """The assistant's reply. ``refusal`` is part of the shape and always null."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


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
    """An entry for each token. ``refusal`` is part of the shape and always null."""

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


class ChunkDelta(Struct, frozen=True, kw_only=True):
    """What is new: the role in the first chunk, then text; nothing in the finishing chunk."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


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
