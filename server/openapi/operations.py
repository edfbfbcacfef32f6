"""What handlers tell the OpenAPI document beyond their signature: bodies, streams, refusals.

Refusals that depend on a route's access or on its having a body are added to all such routes by
:mod:`server.openapi.document`; here are the others, and those with a text of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from litestar.openapi import ResponseSpec
from litestar.openapi.spec import (
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Reference,
    RequestBody,
    Schema,
)

from server.wire.chat import ChatRequest
from server.wire.completions import ChatCompletion, ChatCompletionChunk
from server.wire.errors import ErrorEnvelope
from server.wire.lora import LoadAdapterRequest, UnloadAdapterRequest
from server.wire.models import Health, Model, ModelList, Version
from server.wire.response_events import EVENTS
from server.wire.response_objects import ItemList, ResponseDeleted, ResponseObject
from server.wire.responses import ResponsesRequest
from server.wire.session import OpenSession, SignIn
from server.wire.text import CompletionRequest, TextCompletion
from server.wire.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest

WIRE_TYPES = (
    ChatRequest,
    ChatCompletion,
    ChatCompletionChunk,
    CompletionRequest,
    TextCompletion,
    ResponsesRequest,
    ResponseObject,
    *EVENTS,
    ResponseDeleted,
    ItemList,
    TokenizeRequest,
    Tokenized,
    DetokenizeRequest,
    Detokenized,
    LoadAdapterRequest,
    UnloadAdapterRequest,
    SignIn,
    OpenSession,
    ErrorEnvelope,
    Health,
    Model,
    ModelList,
    Version,
)
SCHEMAS = "#/components/schemas/"
HEADERS = "#/components/headers/"


def error(description: str) -> ResponseSpec:
    """A refusal in our one shape."""
    return ResponseSpec(ErrorEnvelope, generate_examples=False, description=description)


ERRORS: dict[int, ResponseSpec] = {
    400: error("The request is malformed, out of bounds or too long; `param` names the field."),
    404: error("No such model is served."),
    429: error("Too many requests are waiting; `retry-after` says when to try again."),
    503: error("The server is stopping, or the adapter cannot be served."),
}
TOKEN_ERRORS = {status: ERRORS[status] for status in (400, 404)}
TOKENIZE_ERRORS = {**TOKEN_ERRORS, 429: ERRORS[429]}
LOOKUP_ERRORS = {404: ERRORS[404]}
KEPT_ERRORS = {400: error("The request is malformed."), 404: error("No such response is kept.")}
READY_ERRORS = {503: error("Not ready: starting, stopping or failed.")}
LOAD_ERRORS = {
    400: error(
        "The request is malformed, the name is taken or cannot be used, or the adapter cannot be "
        "served, with every reason; nothing has changed."
    ),
    403: error(
        "A page of another origin asks, the key is no admin key, or the path is not below an "
        "allowed directory."
    ),
    404: error("There is no adapter in the directory."),
    503: error("The registry cannot be written, or the keys cannot be read."),
}
UNLOAD_ERRORS = {404: error("There is no such adapter."), 503: LOAD_ERRORS[503]}

SESSION_ERRORS = {
    400: error("The request is malformed."),
    401: error("The key is not valid."),
    403: error("A page of another origin asks, or the key is no admin key."),
    503: error("The keys cannot be read."),
}


@dataclass
class _BodyOperation(Operation):
    """Adds what Litestar cannot see: the body that it does not decode."""

    body: ClassVar[type]

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            required=True,
            content={"application/json": _content(self.body)},
        )


def taking(wire_type: type) -> type[Operation]:
    """The operation of a handler that decodes such a body itself."""

    @dataclass
    class Taking(_BodyOperation):
        body = wire_type

    return Taking


@dataclass
class _StreamOperation(_BodyOperation):
    """And the answer as a stream."""

    whole: ClassVar[type]
    chunks: ClassVar[tuple[type, ...]]

    def __post_init__(self) -> None:
        super().__post_init__()
        success = (self.responses or {})["200"]
        assert isinstance(success, OpenAPIResponse)
        success.description = (
            "The reply; with `stream: true` server-sent events, whose data are such chunks, and "
            "`[DONE]` in the last."
        )
        success.content = {
            "application/json": _content(self.whole),
            "text/event-stream": _content(*self.chunks),
        }
        success.headers = adapter_headers()


@dataclass
class ChatOperation(_StreamOperation):
    """``POST /v1/chat/completions``."""

    body, whole, chunks = ChatRequest, ChatCompletion, (ChatCompletionChunk,)


@dataclass
class TextOperation(_StreamOperation):
    """``POST /v1/completions``."""

    body, whole, chunks = CompletionRequest, TextCompletion, (TextCompletion,)


@dataclass
class ResponsesOperation(_StreamOperation):
    """``POST /v1/responses``."""

    body, whole, chunks = ResponsesRequest, ResponseObject, EVENTS


@dataclass
class LoadAdapterOperation(_BodyOperation):
    """``POST /v1/load_lora_adapter``."""

    body = LoadAdapterRequest

    def __post_init__(self) -> None:
        super().__post_init__()
        responses = self.responses or {}
        success, refusal = responses["200"], responses["400"]
        assert isinstance(success, OpenAPIResponse)
        assert isinstance(refusal, OpenAPIResponse)
        success.headers = adapter_headers()
        refusal.headers = _headers("x-should-retry")


def adapter_headers() -> dict[str, OpenAPIHeader | Reference]:
    """The headers of an answer that tell which adapter it is about."""
    return _headers("x-adapter-id", "x-adapter-version")


def _headers(*names: str) -> dict[str, OpenAPIHeader | Reference]:
    return {name: Reference(ref=HEADERS + name) for name in names}


def _content(*wire_types: type) -> OpenAPIMediaType:
    references = [Reference(ref=SCHEMAS + each.__name__) for each in wire_types]
    one, *others = references
    return OpenAPIMediaType(schema=Schema(any_of=references) if others else one)
