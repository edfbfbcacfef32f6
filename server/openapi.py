"""The OpenAPI document: Litestar knows the paths, msgspec the schemas.

Litestar's own schemas of msgspec types lose constraints inside unions and discriminators, so its
components are replaced by msgspec's, which carry the same names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

import msgspec
from litestar import Litestar
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Reference,
    RequestBody,
)
from litestar.types import ControllerRouterHandler

from server.doorkeeper import FREE_PATHS
from server.wire.chat import ChatRequest
from server.wire.completions import ChatCompletion, ChatCompletionChunk
from server.wire.errors import ErrorEnvelope
from server.wire.models import Health, Model, ModelList, Version
from server.wire.text import CompletionRequest, TextCompletion
from server.wire.tokens import Detokenized, DetokenizeRequest, Tokenized, TokenizeRequest

WIRE_TYPES = (
    ChatRequest,
    ChatCompletion,
    ChatCompletionChunk,
    CompletionRequest,
    TextCompletion,
    TokenizeRequest,
    Tokenized,
    DetokenizeRequest,
    Detokenized,
    ErrorEnvelope,
    Health,
    Model,
    ModelList,
    Version,
)
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key of `lccc-admin keys create`; needed as soon as there is one.",
}
_COMPONENTS = "#/components/schemas/"


def _error(description: str) -> ResponseSpec:
    return ResponseSpec(ErrorEnvelope, generate_examples=False, description=description)


ERRORS: dict[int, ResponseSpec] = {
    400: _error("The request is malformed, out of bounds or too long; `param` names the field."),
    401: _error("There are keys, and the request has none of them."),
    404: _error("No such model is served."),
    413: _error("The body is too large."),
    415: _error("The body is not declared as JSON."),
    429: _error("Too many requests are waiting; `retry-after` says when to try again."),
    500: _error("The server failed."),
    503: _error("The server is stopping, or the adapter cannot be served."),
}
TOKEN_ERRORS = {status: ERRORS[status] for status in (400, 401, 404, 413, 415, 500, 503)}
KEY_ERRORS = {401: ERRORS[401]}
LOOKUP_ERRORS = {400: _error("The request is malformed."), 401: ERRORS[401], 404: ERRORS[404]}
READY_ERRORS = {503: _error("Not ready: starting, stopping or failed.")}


@dataclass
class _BodyOperation(Operation):
    """Adds what Litestar cannot see: the body that it does not decode."""

    body: ClassVar[type]

    def __post_init__(self) -> None:
        self.request_body = RequestBody(
            required=True,
            content={"application/json": _content(self.body)},
        )


@dataclass
class _StreamOperation(_BodyOperation):
    """And the answer as a stream."""

    whole: ClassVar[type]
    chunk: ClassVar[type]

    def __post_init__(self) -> None:
        super().__post_init__()
        success = (self.responses or {})["200"]
        assert isinstance(success, OpenAPIResponse)
        success.description = "The reply; with `stream: true` a sequence of chunks."
        success.content = {
            "application/json": _content(self.whole),
            "text/event-stream": _content(self.chunk),
        }


@dataclass
class ChatOperation(_StreamOperation):
    """``POST /v1/chat/completions``."""

    body, whole, chunk = ChatRequest, ChatCompletion, ChatCompletionChunk


@dataclass
class TextOperation(_StreamOperation):
    """``POST /v1/completions``."""

    body, whole, chunk = CompletionRequest, TextCompletion, TextCompletion


@dataclass
class TokenizeOperation(_BodyOperation):
    """``POST /tokenize``."""

    body = TokenizeRequest


@dataclass
class DetokenizeOperation(_BodyOperation):
    """``POST /detokenize``."""

    body = DetokenizeRequest


def _content(wire_type: type) -> OpenAPIMediaType:
    return OpenAPIMediaType(schema=Reference(ref=_COMPONENTS + wire_type.__name__))


def document(
    routes: Sequence[ControllerRouterHandler], dependencies: Mapping[str, Provide]
) -> bytes:
    """The document for ``routes``, deterministic, indented, with a final newline.

    The application made here only describes itself; it serves nothing.
    """
    config = OpenAPIConfig(
        title="LCCC chat server",
        version=version("lccc-chat"),
        description="OpenAI's chat API for one base model and many LoRA adapters.",
        use_handler_docstrings=True,
    )
    described = Litestar(
        routes, openapi_config=config, logging_config=None, dependencies=dependencies
    )
    found = described.openapi_schema.to_schema()
    _, schemas = msgspec.json.schema_components(WIRE_TYPES, ref_template=_COMPONENTS + "{name}")
    found["components"] = {"schemas": schemas, "securitySchemes": {"key": _KEY}}
    found["security"] = [{"key": []}, {}]
    for path in FREE_PATHS:
        found["paths"][path]["get"]["security"] = []
    encoded = msgspec.json.encode(found, order="deterministic")
    return msgspec.json.format(encoded, indent=2) + b"\n"
