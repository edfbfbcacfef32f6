"""The OpenAPI document: committed, served, complete."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

import server.wire.chat
import server.wire.completions
import server.wire.errors
import server.wire.models
import server.wire.parameters
import server.wire.text
import server.wire.tokens
from server.app import describe

COMMITTED = Path(__file__).parents[2] / "openapi" / "openapi.json"
MODULES = (
    server.wire.chat,
    server.wire.completions,
    server.wire.errors,
    server.wire.models,
    server.wire.parameters,
    server.wire.text,
    server.wire.tokens,
)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return json.loads(describe())


def test_the_committed_document_is_what_the_code_describes() -> None:
    """After a change of the API: ``lccc-admin openapi --output openapi/openapi.json``."""
    assert describe() == COMMITTED.read_bytes()


def test_the_served_document_is_the_committed_one(client: TestClient[Any]) -> None:
    """Byte for byte."""
    response = client.get("/openapi.json")

    assert response.content == COMMITTED.read_bytes()
    assert response.headers["content-type"] == "application/json"


def test_every_wire_type_is_in_it(document: dict[str, Any]) -> None:
    """A type that is on the wire and not in the document would be a secret."""
    types = {
        name
        for module in MODULES
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value.__module__ == module.__name__
    }

    assert types - {"Inbound", "Parameters"} == set(document["components"]["schemas"])


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """Paths and components fit together although two libraries wrote them."""
    schemas = document["components"]["schemas"]

    def references(part: Any) -> list[str]:
        if isinstance(part, list):
            return [found for item in part for found in references(item)]
        if isinstance(part, dict):
            inner = [found for item in part.values() for found in references(item)]
            return [*inner, part["$ref"]] if "$ref" in part else inner
        return []

    names = {reference.rpartition("/")[2] for reference in references(document)}
    assert names <= set(schemas)
    assert {"ChatRequest", "ChatCompletion", "ChatCompletionChunk", "ErrorEnvelope"} <= names


def test_bounds_and_unions_survive(document: dict[str, Any]) -> None:
    """What the decoder enforces is what the document says."""
    schemas = document["components"]["schemas"]
    fields = schemas["ChatRequest"]["properties"]

    assert fields["temperature"]["anyOf"][0] == {
        "type": "number",
        "minimum": 0,
        "maximum": 2,
        "description": "0 always takes the likeliest token.",
    }
    assert {"type": "string", "minLength": 1, "maxLength": 256} in fields["stop"]["anyOf"]
    assert any(option.get("maxItems") == 4 for option in fields["stop"]["anyOf"])
    assert fields["messages"]["minItems"] == 1
    assert fields["messages"]["items"]["discriminator"]["propertyName"] == "role"
    assert schemas["ChatRequest"]["required"] == ["model", "messages"]


def test_the_chat_answers_as_json_or_as_a_stream(document: dict[str, Any]) -> None:
    """Both forms of success, the required body, and our own error shape for each status."""
    chat = document["paths"]["/v1/chat/completions"]["post"]
    content = chat["responses"]["200"]["content"]
    errors = {status: answer for status, answer in chat["responses"].items() if status != "200"}

    assert set(content) == {"application/json", "text/event-stream"}
    assert chat["requestBody"]["required"] is True
    assert set(errors) == {"400", "401", "404", "413", "415", "429", "500", "503"}
    for answer in errors.values():
        schema = answer["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/ErrorEnvelope"}


def test_every_path_of_the_server_is_described(document: dict[str, Any]) -> None:
    """No endpoint is hidden but the document itself; no answer has a shape that is not ours."""
    assert set(document["paths"]) == {
        "/detokenize",
        "/health",
        "/metrics",
        "/ready",
        "/tokenize",
        "/version",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/models",
        "/v1/models/{model_id}",
    }
    assert "status_code" not in json.dumps(document)


def test_keys_are_described(document: dict[str, Any]) -> None:
    """A bearer token, which may be left out where there are no keys; probes never need one."""
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    assert document["security"] == [{"key": []}, {}]
    assert document["paths"]["/health"]["get"]["security"] == []
    assert "security" not in document["paths"]["/v1/models"]["get"]
