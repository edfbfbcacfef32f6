"""The body of ``POST /v1/chat/completions``: fields, types and bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from server.wire.names import SHORT_NAME
from server.wire.parameters import Inbound, MaxTokens, Parameters, TopLogprobs
from server.wire.tools import GivenToolCall, Tool, ToolChoice


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
    """What the model said earlier: its thoughts, an answer, calls of functions.

    There is an answer or a call. ``reasoning`` is another name for ``reasoning_content``.
    """

    content: Content | None = None
    name: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Annotated[list[GivenToolCall], Meta(max_length=128)] | None = None
    function_call: None = None


class ToolMessage(Inbound, frozen=True, kw_only=True, tag_field="role", tag="tool"):
    """What the function returned that an earlier call asked for."""

    content: Content
    tool_call_id: Annotated[str, Meta(min_length=1, max_length=256)]
    name: str | None = None


Message = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage
Messages = Annotated[list[Message], Meta(min_length=1, max_length=4096)]
Tools = Annotated[list[Tool], Meta(max_length=128)]


class TextFormat(Inbound, frozen=True, kw_only=True, tag_field="type", tag="text"):
    """Any text."""


class JsonObjectFormat(Inbound, frozen=True, kw_only=True, tag_field="type", tag="json_object"):
    """Any JSON object."""


class JsonSchema(Inbound, frozen=True, kw_only=True):
    """A schema. Replies are always held to it, so ``strict`` changes nothing."""

    name: Annotated[str, Meta(pattern=SHORT_NAME)]
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class JsonSchemaFormat(Inbound, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """JSON that a schema describes, in the order of its properties and without white space."""

    json_schema: JsonSchema


ResponseFormat = TextFormat | JsonObjectFormat | JsonSchemaFormat


class ChatTemplateKwargs(Inbound, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Switches of the base's chat template."""

    enable_thinking: bool | None = None


ReasoningEffort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class ChatRequest(Parameters, frozen=True, kw_only=True):
    """A conversation, and how to continue it.

    What is left out falls back to the model's own defaults (see ``GET /v1/models``), then to the
    neutral values. ``max_completion_tokens`` wins over ``max_tokens``.
    ``tool_choice`` is ``auto`` where there are ``tools``; unless ``parallel_tool_calls`` is false,
    a reply may call several.
    ``reasoning_effort`` other than ``none`` switches thinking on, whichever it is, and so does
    ``chat_template_kwargs.enable_thinking``; without either it is off, where the base has a switch.
    ``add_generation_prompt`` (true) opens the assistant's turn after the messages;
    ``continue_final_message`` leaves the last of them open instead, which is then the assistant's.
    ``user``, ``metadata`` and ``store`` are accepted and have no effect.
    """

    messages: Messages
    max_completion_tokens: MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    response_format: ResponseFormat | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: ReasoningEffort | None = None
    chat_template_kwargs: ChatTemplateKwargs | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None


def text_of(content: Content) -> str:
    """The text of a message; several parts are joined by newlines."""
    return content if isinstance(content, str) else "\n".join(part.text for part in content)


Role = Literal["system", "user", "assistant", "tool"]


def role_of(message: Message) -> Role:
    """The role as chat templates know it; ``developer`` is another word for ``system``."""
    match message:
        case UserMessage():
            return "user"
        case AssistantMessage():
            return "assistant"
        case ToolMessage():
            return "tool"
        case _:
            return "system"
