"""The OpenAPI document, put together from what knows its parts.

Litestar knows the paths, msgspec the schemas, each handler its access; what follows from that for
every route of a kind (keys, refusals, headers) is added here, so that no handler can forget it.
Litestar's own schemas of msgspec types lose constraints inside unions and discriminators, so its
components are replaced by msgspec's, which carry the same names.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Litestar
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.types import ControllerRouterHandler

from server.access.scopes import Access, access_of
from server.openapi.examples import ANSWERS, PROBLEMS, REQUESTS, STREAMS
from server.openapi.operations import HEADERS, SCHEMAS, WIRE_TYPES
from server.openapi.operations_of_admin import ADMIN_TYPES

Part = dict[str, Any]

_ABOUT = """\
OpenAI's chat API for one base model and many LoRA adapters, named by `model`.

Every failure has OpenAI's shape, `{"error": {"message", "type", "param", "code"}}`.
After a stream has begun, its last data before `[DONE]` is that object.
"""
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key of `lccc-admin keys create`, of scope `inference` or `admin`, or the "
    "token that `lccc-admin serve` prints, which is good for both. As long as there is no "
    "key at all, a server that only this machine can reach asks for none where `inference` would "
    "do; where `admin` is needed, it always is.",
}
_TAGS = {
    "chat": "Conversations.",
    "completions": "Text that goes on where a prompt ends.",
    "responses": "Answers that are kept, for a later request to go on from.",
    "models": "What is served.",
    "adapters": "Adapters that come and go while the server runs, as in vLLM.",
    "tokens": "Text to tokens and back.",
    "training": "Trainings: planned, started, watched, stopped and resumed.",
    "data": "Dialogues: uploaded, prepared and looked at.",
    "console": "What the web console signs in with, and what it shows of the server.",
    "health": "For those who watch the server.",
}
_SECURITY: Mapping[Access, list[Part]] = {
    "free": [],
    "inference": [{"key": ["inference"]}, {}],
    "admin": [{"key": ["admin"]}],
}
# Refusals that all routes of a kind have, unless they have a text of their own for that status.
_REFUSALS = {
    "Malformed": ("400", "The request is malformed."),
    "NoKey": ("401", "A key is needed, and the request has none, or none that is valid."),
    "ForeignPage": ("403", "A page of another origin asks."),
    "NoAdmin": ("403", "The key is no admin key, or a page of another origin asks."),
    "TooLarge": ("413", "The body is too large."),
    "NotJson": ("415", "The body is not declared as JSON."),
    "ForeignHost": ("421", "The request is for a host that this server does not answer to."),
    "Failed": ("500", "The server failed."),
    "Unavailable": ("503", "The server is stopping, or cannot read its keys."),
}
_REFUSALS_OF: Mapping[Access, tuple[str, ...]] = {
    "free": ("Malformed", "ForeignPage", "ForeignHost", "Failed"),
    "inference": ("Malformed", "NoKey", "ForeignPage", "ForeignHost", "Failed", "Unavailable"),
    "admin": ("Malformed", "NoKey", "NoAdmin", "ForeignHost", "Failed", "Unavailable"),
}
_TEXT, _NUMBER = {"type": "string"}, {"type": "integer", "minimum": 0}
_HEADERS: dict[str, tuple[Part, str]] = {
    "x-request-id": (_TEXT, "Names this request, also in the log: yours, if you send a plain one."),
    "openai-processing-ms": (_NUMBER, "Milliseconds until the answer began."),
    "x-adapter-id": (_TEXT, "The adapter; absent for the base."),
    "x-adapter-version": (_TEXT, "The beginning of the hash of the adapter's content."),
    "x-ignored-parameters": (_TEXT, "Fields of the request that the server does not know."),
    "retry-after": (_NUMBER, "Seconds after which it is worth trying again."),
    "x-should-retry": (
        {"type": "string", "enum": ["false"]},
        "Whether OpenAI's clients try again by themselves; there only where it would be in vain.",
    ),
    "www-authenticate": (_TEXT, "`Bearer`, as RFC 6750 has it."),
}
_ALWAYS = ("x-request-id", "openai-processing-ms")
_HEADERS_OF = {
    "401": ("www-authenticate",),
    "429": ("retry-after",),
    "503": ("retry-after", "x-should-retry"),
}


def document(
    routes: Sequence[ControllerRouterHandler], dependencies: Mapping[str, Provide]
) -> bytes:
    """The document for ``routes``, deterministic, indented, with a final newline.

    The application made here only describes itself; it serves nothing.
    """
    config = OpenAPIConfig(
        title="LCCC chat server",
        version=version("lccc-chat"),
        description=_ABOUT,
        use_handler_docstrings=True,
    )
    described = Litestar(
        routes, openapi_config=config, logging_config=None, dependencies=dependencies
    )
    found = described.openapi_schema.to_schema()
    access = {handler.operation_id: access_of(handler) for handler in _handlers(described)}
    for operation in _operations(found):
        _complete(operation, access[operation["operationId"]])
    found["tags"] = [{"name": name, "description": text} for name, text in _TAGS.items()]
    found["components"] = {
        "schemas": _schemas(),
        "responses": {
            name: _refusal(status, text, name) for name, (status, text) in _REFUSALS.items()
        },
        "headers": {
            name: {"schema": schema, "description": text}
            for name, (schema, text) in _HEADERS.items()
        },
        "securitySchemes": {"key": _KEY},
    }
    encoded = msgspec.json.encode(found, order="deterministic")
    return msgspec.json.format(encoded, indent=2) + b"\n"


def _handlers(app: Litestar) -> Iterator[HTTPRouteHandler]:
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            if isinstance(handler, HTTPRouteHandler) and handler.operation_id is not None:
                yield handler


def _operations(found: Part) -> Iterator[Part]:
    for path in found["paths"].values():
        yield from path.values()


def _schemas() -> Part:
    """Every wire type. Their docstrings are Markdown only without Python's indentation."""
    _, schemas = msgspec.json.schema_components(
        (*WIRE_TYPES, *ADMIN_TYPES), ref_template=SCHEMAS + "{name}"
    )
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"]).replace("``", "`")
    return {name: _portable(schema) for name, schema in schemas.items()}


def _portable(part: Any) -> Any:
    r"""With patterns as JSON schemas have them, which do not know Python's ``\Z``."""
    if isinstance(part, list):
        return [_portable(each) for each in part]
    if not isinstance(part, dict):
        return part
    if isinstance(pattern := part.get("pattern"), str) and pattern.endswith(r"\Z"):
        part = part | {"pattern": pattern.removesuffix(r"\Z") + "$"}
    return {key: _portable(value) for key, value in part.items()}


def _complete(operation: Part, access: Access) -> None:
    operation["security"] = _SECURITY[access]
    responses = operation["responses"]
    if not _is_ours(responses.get("400")):
        del responses["400"]
    for status, response in responses.items():
        response["headers"] = response.get("headers", {}) | _headers(status, access)
    kinds = operation.get("requestBody", {}).get("content", {})
    shared = _REFUSALS_OF[access] + (("TooLarge",) if kinds else ())
    if "application/json" in kinds:
        responses["200"]["headers"] |= _references("x-ignored-parameters")
        shared += ("NotJson",)
    for name in shared:
        responses.setdefault(_REFUSALS[name][0], {"$ref": f"#/components/responses/{name}"})
    operation["responses"].get("204", {}).pop(
        "content", None
    )  # Litestar says null, which is no body
    _add_examples(operation)


def _is_ours(response: Part | None) -> bool:
    """Whether it is no shape of Litestar's own, which describes one for every path parameter."""
    return response is None or "$ref" in response["content"]["application/json"]["schema"]


def _refusal(status: str, text: str, name: str) -> Part:
    content = {"schema": {"$ref": f"{SCHEMAS}ErrorEnvelope"}}
    _exemplify(content, PROBLEMS.get(name, {}))
    return {
        "description": text,
        "content": {"application/json": content},
        "headers": _headers(status, "admin" if name == "NoAdmin" else "inference"),
    }


def _headers(status: str, access: Access) -> Part:
    challenge = ("www-authenticate",) if (status, access) == ("403", "admin") else ()
    return _references(*_ALWAYS, *_HEADERS_OF.get(status, ()), *challenge)


def _references(*names: str) -> Part:
    return {name: {"$ref": HEADERS + name} for name in names}


def _add_examples(operation: Part) -> None:
    name = operation["operationId"]
    if body := operation.get("requestBody"):
        for content in body["content"].values():
            _exemplify(content, REQUESTS.get(name, {}))
    success = operation["responses"].get("200", {})
    for kind, content in success.get("content", {}).items():
        examples = STREAMS if kind == "text/event-stream" else ANSWERS
        if name in examples:
            content["example"] = _plain(examples[name])


def _exemplify(content: Part, examples: Mapping[str, Any]) -> None:
    if examples:
        content["examples"] = {name: {"value": _plain(one)} for name, one in examples.items()}


def _plain(example: Any) -> Any:
    """With wire types as the JSON that clients see, whose keys the document sorts."""
    return msgspec.to_builtins(example, str_keys=True)
