"""The OpenAPI document: committed, served, complete."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

import server.wire.chat
import server.wire.completions
import server.wire.errors
import server.wire.lora
import server.wire.models
import server.wire.parameters
import server.wire.text
import server.wire.tokens
from server.app import describe
from server.examples import REQUESTS
from server.wire.decode import (
    Decoded,
    decode_chat_request,
    decode_completion_request,
    decode_detokenize_request,
    decode_load_request,
    decode_tokenize_request,
    decode_unload_request,
)
from tests.server.test_access import expected as access_expected

COMMITTED = Path(__file__).parents[2] / "openapi" / "openapi.json"
MODULES = (
    server.wire.chat,
    server.wire.completions,
    server.wire.errors,
    server.wire.lora,
    server.wire.models,
    server.wire.parameters,
    server.wire.text,
    server.wire.tokens,
)


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """``part``, or what it refers to."""
    if "$ref" not in part:
        return part
    _, _, kind, name = part["$ref"].split("/")
    return document["components"][kind][name]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield path, operation


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

    def references(part: Any) -> list[str]:
        if isinstance(part, list):
            return [found for item in part for found in references(item)]
        if isinstance(part, dict):
            inner = [found for item in part.values() for found in references(item)]
            return [*inner, part["$ref"]] if "$ref" in part else inner
        return []

    names = {reference.rpartition("/")[2] for reference in references(document)}
    for reference in references(document):
        assert resolved(document, {"$ref": reference})
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
    assert "429" in errors
    for answer in errors.values():
        schema = resolved(document, answer)["content"]["application/json"]["schema"]
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
        "/v1/load_lora_adapter",
        "/v1/models",
        "/v1/models/{model_id}",
        "/v1/unload_lora_adapter",
    }
    assert "status_code" not in json.dumps(document)


def test_keys_are_described(document: dict[str, Any]) -> None:
    """Which scope each operation takes, and where none is needed as long as there are no keys."""
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for path, operation in operations(document):
        expected = {
            "free": [],
            "inference": [{"key": ["inference"]}, {}],
            "admin": [{"key": ["admin"]}],
        }[access_expected(path)]
        assert operation["security"] == expected, path


def test_every_status_that_can_come_is_described(document: dict[str, Any]) -> None:
    """What the server refuses everywhere, and what follows from keys and bodies."""
    for path, operation in operations(document):
        expected = {"200", "400", "403", "421", "500"}
        if access_expected(path) != "free":
            expected |= {"401", "503"}
        if "requestBody" in operation:
            expected |= {"413", "415"}
        assert expected <= operation["responses"].keys(), path


def test_every_answer_says_its_headers(document: dict[str, Any]) -> None:
    """The id and the time of all, the key's challenge, and which adapter and fields it is about."""
    for path, operation in operations(document):
        for status, answer in operation["responses"].items():
            headers = set(resolved(document, answer)["headers"])
            assert {"x-request-id", "openai-processing-ms"} <= headers, (path, status)
            assert ("www-authenticate" in headers) == (status in ("401", "403"))
            assert ("retry-after" in headers) == (status in ("429", "503"))
            is_read = status == "200" and "requestBody" in operation
            assert ("x-ignored-parameters" in headers) == is_read
    chat = document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]
    assert {"x-adapter-id", "x-adapter-version"} <= set(chat["headers"])


def test_every_operation_has_examples(document: dict[str, Any]) -> None:
    """Of its body where it has one, and of its success in each form."""
    for path, operation in operations(document):
        body = operation.get("requestBody", {"content": {}})
        for content in body["content"].values():
            assert content["examples"], path
        for content in operation["responses"]["200"]["content"].values():
            assert content["example"], path


DECODERS: dict[str, Callable[[bytes], Decoded[Any]]] = {
    "createChatCompletion": decode_chat_request,
    "createCompletion": decode_completion_request,
    "tokenize": decode_tokenize_request,
    "detokenize": decode_detokenize_request,
    "loadLoraAdapter": decode_load_request,
    "unloadLoraAdapter": decode_unload_request,
}


@pytest.mark.parametrize("operation", DECODERS)
def test_the_example_requests_are_ones_the_server_takes(operation: str) -> None:
    """Each is read without a refusal and without an ignored field."""
    for name, body in REQUESTS[operation].items():
        assert DECODERS[operation](msgspec.json.encode(body)).ignored == (), name


def test_texts_read_as_markdown(document: dict[str, Any]) -> None:
    """No Python docstring's indentation, which would be shown as code, and no double ticks."""
    for name, schema in document["components"]["schemas"].items():
        text = schema.get("description", "")
        assert "\n    " not in text, name
        assert "``" not in text, name
