"""``POST /v1/completions``: text goes on where a prompt ends. OpenAI's older API."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from server.wire.completions import EndReason, Usage
from server.wire.parameters import MaxTextTokens, Parameters, TokenId, TopLogprobs

PromptText = Annotated[str, Meta(min_length=1)]
PromptTokens = Annotated[list[TokenId], Meta(min_length=1)]
Prompts = PromptText | Annotated[list[PromptText | PromptTokens | TokenId], Meta(min_length=1)]


class CompletionRequest(Parameters, frozen=True, kw_only=True):
    """A prompt, or several, and how to go on.

    ``prompt`` is a text, a list of texts, a list of token ids, or a list of such lists. A text is
    taken as it reads: names of control tokens in it stay text unless ``parse_special`` is true.
    ``max_tokens`` is 16 where neither the request nor the model says otherwise. ``echo`` puts the
    prompt before each reply, with its own ``logprobs`` where these are asked for.
    """

    prompt: Prompts
    max_tokens: MaxTextTokens | None = None
    logprobs: TopLogprobs | None = None
    echo: bool | None = None
    parse_special: bool | None = None


class TextLogprobs(Struct, frozen=True, kw_only=True):
    r"""An entry in each list for each token; ``text_offset`` counts characters.

    A token that is a part of a character reads ``bytes:\xe4``. Nothing precedes the first token of
    a prompt that is echoed: it has null in two of them.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class TextChoice(Struct, frozen=True, kw_only=True):
    """One reply. In a stream ``finish_reason`` is null until its end."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: EndReason | None = None


class TextCompletion(Struct, frozen=True, kw_only=True):
    """All replies at once, or one frame of a stream; all frames share ``id``.

    ``usage`` of a frame is there only with ``stream_options.include_usage``: null, and filled in a
    last one without choices.
    """

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
