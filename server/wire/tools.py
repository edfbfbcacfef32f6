"""Functions that a model may call: as requests describe them, and as replies call them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from server.wire.names import SHORT_NAME
from server.wire.parameters import Inbound

FunctionName = Annotated[
    str, Meta(pattern=SHORT_NAME, description="Letters, digits, _ and -; at most 64.")
]


class FunctionDefinition(Inbound, frozen=True, kw_only=True):
    """A function: what it is for, and a JSON schema of its arguments (none: it takes none)."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Inbound, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """Something that the model may call; functions are the only kind."""

    function: FunctionDefinition


class FunctionReference(Inbound, frozen=True, kw_only=True):
    """One of the request's functions, by name."""

    name: FunctionName


class NamedTool(Inbound, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """The function that has to be called."""

    function: FunctionReference


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class GivenFunctionCall(Inbound, frozen=True, kw_only=True):
    """``arguments`` is JSON, as text."""

    name: FunctionName
    arguments: str


class GivenToolCall(Inbound, frozen=True, kw_only=True, tag_field="type", tag="function"):
    """A call that the assistant made earlier in the conversation."""

    id: Annotated[str, Meta(min_length=1, max_length=256)]
    function: GivenFunctionCall


class FunctionCall(Struct, frozen=True, kw_only=True):
    """``arguments`` is JSON, as text."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True, kw_only=True):
    """A call that the model makes. A tool message answers it by its ``id``."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall
