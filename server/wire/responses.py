"""The body of ``POST /v1/responses``: fields, types and bounds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from server.wire.chat import JsonObjectFormat, ReasoningEffort, TextFormat
from server.wire.names import SHORT_NAME
from server.wire.parameters import CommonParameters, Inbound, MaxTokens, TopLogprobs
from server.wire.tools import FunctionName

ResponseId = Annotated[str, Meta(min_length=1, max_length=256)]
CallId = Annotated[str, Meta(min_length=1, max_length=256)]
ItemStatus = Literal["in_progress", "completed", "incomplete"]
Truncation = Literal["auto", "disabled"]
Identifier = Annotated[str, Meta(max_length=512)]


class GivenInputText(Inbound, frozen=True, kw_only=True, tag_field="type", tag="input_text"):
    """A piece of text; the only kind of content that a text model understands."""

    text: str


class GivenOutputText(Inbound, frozen=True, kw_only=True, tag_field="type", tag="output_text"):
    """A piece of what the model said earlier."""

    text: str


GivenTexts = Annotated[list[GivenInputText | GivenOutputText], Meta(min_length=1, max_length=1024)]
GivenContent = str | GivenTexts


class GivenMessage(Inbound, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """What someone said. Its ``type`` may be left out."""

    role: Literal["user", "assistant", "system", "developer"]
    content: GivenContent


class GivenFunctionCallItem(
    Inbound, frozen=True, kw_only=True, tag_field="type", tag="function_call"
):
    """A call that the model made earlier. ``arguments`` is JSON, as text."""

    call_id: CallId
    name: FunctionName
    arguments: str


class GivenFunctionCallOutput(
    Inbound, frozen=True, kw_only=True, tag_field="type", tag="function_call_output"
):
    """What a call came to."""

    call_id: CallId
    output: str | Annotated[list[GivenInputText], Meta(min_length=1, max_length=1024)]


class GivenReasoningText(
    Inbound, frozen=True, kw_only=True, tag_field="type", tag="reasoning_text"
):
    """A piece of what the model thought earlier."""

    text: str


class GivenReasoning(Inbound, frozen=True, kw_only=True, tag_field="type", tag="reasoning"):
    """What the model thought before it answered. Only ``content`` is read, never a summary."""

    content: Annotated[list[GivenReasoningText], Meta(max_length=1024)] | None = None


class ItemReference(Inbound, frozen=True, kw_only=True, tag_field="type", tag="item_reference"):
    """An item of a response that is kept, by its id. Its ``type`` may be left out."""

    id: ResponseId


InputItem = (
    GivenMessage | GivenFunctionCallItem | GivenFunctionCallOutput | GivenReasoning | ItemReference
)
InputItems = Annotated[list[InputItem], Meta(min_length=1, max_length=4096)]


class SchemaFormat(Inbound, frozen=True, kw_only=True, tag_field="type", tag="json_schema"):
    """JSON that a schema describes, in the order of its properties and without white space.

    Replies are always held to it, so ``strict`` changes nothing.
    """

    name: Annotated[str, Meta(pattern=SHORT_NAME)]
    schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None


class TextConfig(Inbound, frozen=True, kw_only=True):
    """The form of the text. ``verbosity`` is accepted and has no effect."""

    format: TextFormat | JsonObjectFormat | SchemaFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Inbound, frozen=True, kw_only=True):
    """Whether the model thinks before it answers: with every ``effort`` but ``none``.

    ``summary`` ``auto`` asks for whatever summary there is; the thoughts themselves are shown, and
    there is none.
    """

    effort: ReasoningEffort | None = None
    summary: Literal["auto"] | None = None


class FunctionTool(Inbound, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """A function that the model may call, with a JSON schema of its arguments."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionChoice(Inbound, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """One of the request's functions."""

    name: FunctionName


class AllowedTools(Inbound, frozen=True, kw_only=True, tag_field="type", tag="allowed_tools"):
    """Some of the request's functions: of the others none may be called."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[FunctionChoice], Meta(min_length=1, max_length=128)]


ResponseToolChoice = Literal["none", "auto", "required"] | FunctionChoice | AllowedTools


class ResponseStreamOptions(Inbound, frozen=True, kw_only=True):
    """``include_obfuscation`` is accepted; this server adds none."""

    include_obfuscation: bool | None = None


class ResponsesRequest(CommonParameters, frozen=True, kw_only=True):
    """What there is to answer, and how.

    ``input`` is a text of the user, or items; with ``previous_response_id`` it goes on from there.
    ``instructions`` replace the model's own system prompt, for this response alone.
    What is left out falls back to the model's own defaults (see ``GET /v1/models``), then to the
    neutral values. ``store`` (default true) keeps the response, so that others can go on from it.
    ``truncation`` ``auto`` leaves out the oldest turns of a conversation that is too long, a turn
    being a message of the user with all up to the next; what the system says always stays.
    ``user``, ``safety_identifier``, ``prompt_cache_key``, ``prompt_cache_retention``,
    ``service_tier`` and ``max_tool_calls``, which limits the tools of servers, have no effect.
    """

    input: str | InputItems
    instructions: str | None = None
    previous_response_id: ResponseId | None = None
    max_output_tokens: MaxTokens | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=128)] | None = None
    tool_choice: ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    include: (
        Annotated[list[Literal["message.output_text.logprobs"]], Meta(max_length=16)] | None
    ) = None
    top_logprobs: TopLogprobs | None = None
    stream_options: ResponseStreamOptions | None = None
    truncation: Truncation | None = None
    safety_identifier: Identifier | None = None
    prompt_cache_key: Identifier | None = None
    prompt_cache_retention: Identifier | None = None
    service_tier: Identifier | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
