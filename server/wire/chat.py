"""The body of ``POST /v1/chat/completions``: fields, types and bounds."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

ModelName = Annotated[
    str, Meta(min_length=1, max_length=256, description="The base or an adapter, by name.")
]
Temperature = Annotated[float, Meta(ge=0, le=2, description="0 always takes the likeliest token.")]
TopP = Annotated[float, Meta(gt=0, le=1, description="Keep the likeliest tokens up to this mass.")]
TopK = Annotated[
    int, Meta(ge=-1, le=2**31 - 1, description="Keep this many tokens; 0 and -1 keep all.")
]
MinP = Annotated[
    float, Meta(ge=0, le=1, description="Drop tokens below this share of the likeliest one's.")
]
Penalty = Annotated[
    float, Meta(ge=-2, le=2, description="Above 0, what the reply already has gets less likely.")
]
RepetitionPenalty = Annotated[
    float, Meta(ge=0.1, le=10, description="Above 1, tokens already seen become less likely.")
]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
LogitBias = Annotated[
    dict[TokenId, Annotated[float, Meta(ge=-100, le=100)]],
    Meta(max_length=1024, description="Token ids, and what is added to their logits."),
]
MaxTokens = Annotated[int, Meta(ge=1, le=2**31 - 1, description="At most this many new tokens.")]
MinTokens = Annotated[
    int, Meta(ge=0, le=2**31 - 1, description="Nothing ends the reply before it has this many.")
]
Seed = Annotated[
    int, Meta(ge=-(2**63), le=2**63 - 1, description="The same seed gives the same reply.")
]
StopString = Annotated[str, Meta(min_length=1, max_length=256)]
StopStrings = Annotated[list[StopString], Meta(max_length=4)]
StopTokenIds = Annotated[
    list[TokenId], Meta(max_length=64, description="These tokens end the reply, too.")
]
OneChoice = Annotated[int, Meta(ge=1, le=1, description="Only one choice is supported so far.")]
Metadata = Annotated[
    dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]],
    Meta(max_length=16),
]


class Inbound(Struct, frozen=True, kw_only=True):
    """A part of a request. Unknown fields are ignored (the top level reports them in a header)."""


class TextPart(Inbound, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """A piece of text; the only kind of content part that a text model understands."""

    text: str


Content = str | Annotated[list[TextPart], Meta(min_length=1, max_length=1024)]


class SystemMessage(Inbound, frozen=True, kw_only=True, tag_field="role", tag="system"):
    """Instructions for the whole conversation; they replace the model's own system prompt."""

    content: Content
    name: str | None = None


class DeveloperMessage(Inbound, frozen=True, kw_only=True, tag_field="role", tag="developer"):
    """OpenAI's newer name for a system message."""

    content: Content
    name: str | None = None


class UserMessage(Inbound, frozen=True, kw_only=True, tag_field="role", tag="user"):
    """What the person said."""

    content: Content
    name: str | None = None


class AssistantMessage(Inbound, frozen=True, kw_only=True, tag_field="role", tag="assistant"):
    """What the model said earlier. Tool calls are not supported, so they have to be null."""

    content: Content
    name: str | None = None
    tool_calls: None = None
    function_call: None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage


class StreamOptions(Inbound, frozen=True, kw_only=True):
    """``include_usage`` adds a last chunk with the token counts."""

    include_usage: bool = False


class ChatRequest(Inbound, frozen=True, kw_only=True):
    """A conversation, and how to continue it.

    What is left out falls back to the model's own defaults (see ``GET /v1/models``), then to the
    neutral values. ``max_completion_tokens`` wins over ``max_tokens``.
    ``user``, ``metadata`` and ``store`` are accepted and have no effect.
    """

    model: ModelName
    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    max_tokens: MaxTokens | None = None
    max_completion_tokens: MaxTokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None
    min_p: MinP | None = None
    repetition_penalty: RepetitionPenalty | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: LogitBias | None = None
    min_tokens: MinTokens | None = None
    seed: Seed | None = None
    stop: StopString | StopStrings | None = None
    stop_token_ids: StopTokenIds | None = None
    ignore_eos: bool | None = None
    n: OneChoice | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: Annotated[str, Meta(max_length=512)] | None = None
    metadata: Metadata | None = None
    store: bool | None = None


def text_of(content: Content) -> str:
    """The text of a message; several parts are joined by newlines."""
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


Role = Literal["system", "user", "assistant"]


def role_of(message: Message) -> Role:
    """The role as chat templates know it; ``developer`` is another word for ``system``."""
    match message:
        case UserMessage():
            return "user"
        case AssistantMessage():
            return "assistant"
        case _:
            return "system"
