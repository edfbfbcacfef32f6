"""The OpenAPI document: committed, served, complete."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

import server.wire.adapters
import server.wire.chat
import server.wire.completions
import server.wire.datasets
import server.wire.errors
import server.wire.jobs
import server.wire.logs
import server.wire.lora
import server.wire.models
import server.wire.parameters
import server.wire.recipes
import server.wire.response_events
import server.wire.response_objects
import server.wire.responses
import server.wire.runs
import server.wire.session
import server.wire.sweeps
import server.wire.text
import server.wire.tokens
import server.wire.tools
from server.app import describe
from server.openapi.examples import REQUESTS
from server.wire.adapters import RegisterRequest, RenameRequest
from server.wire.datasets import PrepareRequest, UploadRequest
from server.wire.decode import (
    Decoded,
    decode_body,
    decode_chat_request,
    decode_completion_request,
    decode_tokenize_request,
)
from server.wire.decode_responses import decode_responses_request
from server.wire.lora import LoadAdapterRequest, UnloadAdapterRequest
from server.wire.runs import TrainingRequest
from server.wire.session import SignIn
from server.wire.tokens import DetokenizeRequest
from tests.server.access.test_scopes import expected as access_expected

COMMITTED = Path(__file__).parents[3] / "openapi" / "openapi.json"
MODULES = (
    server.wire.adapters,
    server.wire.chat,
    server.wire.completions,
    server.wire.datasets,
    server.wire.errors,
    server.wire.jobs,
    server.wire.logs,
    server.wire.lora,
    server.wire.models,
    server.wire.parameters,
    server.wire.recipes,
    server.wire.runs,
    server.wire.sweeps,
    server.wire.session,
    server.wire.response_events,
    server.wire.response_objects,
    server.wire.responses,
    server.wire.text,
    server.wire.tokens,
    server.wire.tools,
)
ABSTRACT = {"Inbound", "CommonParameters", "Parameters", "ResponseEvent"}


def resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """``part``, or what it refers to."""
    if "$ref" not in part:
        return part
    _, _, kind, name = part["$ref"].split("/")
    return document["components"][kind][name]


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def success(operation: dict[str, Any]) -> dict[str, Any]:
    """200, or 204, which has nothing in it."""
    (status,) = operation["responses"].keys() & {"200", "204"}
    return operation["responses"][status]


def takes_json(operation: dict[str, Any]) -> bool:
    return "application/json" in operation["requestBody"]["content"]


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

    assert types - ABSTRACT == set(document["components"]["schemas"])


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


def test_a_response_is_an_object_or_its_events(document: dict[str, Any]) -> None:
    """The stream is any of the events, each of which has its name and number."""
    schemas = document["components"]["schemas"]
    content = document["paths"]["/v1/responses"]["post"]["responses"]["200"]["content"]
    events = content["text/event-stream"]["schema"]["anyOf"]
    names = [each["$ref"].rpartition("/")[2] for each in events]

    assert content["application/json"]["schema"]["$ref"].endswith("/ResponseObject")
    assert "ResponseCompleted" in names
    for name in names:
        assert {"type", "sequence_number"} <= set(schemas[name]["required"])


def test_every_path_of_the_server_is_described(document: dict[str, Any]) -> None:
    """No endpoint is hidden but the document itself; no answer has a shape that is not ours."""
    assert set(document["paths"]) == {
        "/admin/adapters",
        "/admin/adapters/{name}",
        "/admin/adapters/{name}/download",
        "/admin/adapters/{name}/rename",
        "/admin/adapters/{name}/merge",
        "/admin/evaluations",
        "/admin/datasets",
        "/admin/datasets/{name}",
        "/admin/datasets/{name}/preview",
        "/admin/jobs",
        "/admin/jobs/{job_id}",
        "/admin/jobs/{job_id}/cancel",
        "/admin/logs",
        "/admin/recipes",
        "/admin/recipes/plan",
        "/admin/runs",
        "/admin/runs/{run_id}",
        "/admin/runs/{run_id}/log",
        "/admin/runs/{run_id}/metrics",
        "/admin/runs/{run_id}/resume",
        "/admin/runs/{run_id}/stop",
        "/admin/session",
        "/admin/sweeps",
        "/admin/sweeps/plan",
        "/admin/sweeps/{name}",
        "/admin/sweeps/{name}/resume",
        "/admin/sweeps/{name}/stop",
        "/admin/uploads",
        "/admin/uploads/{upload_id}",
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
        "/v1/responses",
        "/v1/responses/{response_id}",
        "/v1/responses/{response_id}/input_items",
    }
    assert "status_code" not in json.dumps(document)


def test_keys_are_described(document: dict[str, Any]) -> None:
    """Which scope each operation takes, and where none is needed as long as there are no keys."""
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    for method, path, operation in operations(document):
        expected = {
            "free": [],
            "inference": [{"key": ["inference"]}, {}],
            "admin": [{"key": ["admin"]}],
        }[access_expected(method, path)]
        assert operation["security"] == expected, path


def test_every_status_that_can_come_is_described(document: dict[str, Any]) -> None:
    """What the server refuses everywhere, and what follows from keys and bodies."""
    for method, path, operation in operations(document):
        assert success(operation)
        expected = {"400", "403", "421", "500"}
        if access_expected(method, path) != "free":
            expected |= {"401", "503"}
        if "requestBody" in operation:
            expected |= {"413", "415"} if takes_json(operation) else {"413"}
        assert expected <= operation["responses"].keys(), path


def test_every_answer_says_its_headers(document: dict[str, Any]) -> None:
    """The id and the time of all, the key's challenge, and which adapter and fields it is about."""
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            headers = set(resolved(document, answer)["headers"])
            assert {"x-request-id", "openai-processing-ms"} <= headers, (path, status)
            is_challenged = status == "401" or (
                status == "403" and access_expected(method, path) == "admin"
            )
            assert ("www-authenticate" in headers) == is_challenged
            assert ("retry-after" in headers) == (status in ("429", "503"))
            is_read = status == "200" and "requestBody" in operation and takes_json(operation)
            assert ("x-ignored-parameters" in headers) == is_read
    chat = document["paths"]["/v1/chat/completions"]["post"]["responses"]["200"]
    assert {"x-adapter-id", "x-adapter-version"} <= set(chat["headers"])


def test_every_operation_has_examples(document: dict[str, Any]) -> None:
    """Of its body where it has one, and of its success in each form."""
    for _, path, operation in operations(document):
        body = operation.get("requestBody", {"content": {}})
        for content in body["content"].values():
            assert content["examples"], path
        for content in success(operation).get("content", {}).values():
            assert content["example"], path


DECODERS: dict[str, Callable[[bytes], Decoded[Any]]] = {
    "createChatCompletion": decode_chat_request,
    "createCompletion": decode_completion_request,
    "tokenize": decode_tokenize_request,
    "detokenize": lambda body: decode_body(body, DetokenizeRequest),
    "loadLoraAdapter": lambda body: decode_body(body, LoadAdapterRequest),
    "unloadLoraAdapter": lambda body: decode_body(body, UnloadAdapterRequest),
    "openSession": lambda body: decode_body(body, SignIn),
    "createResponse": decode_responses_request,
    "startRun": lambda body: decode_body(body, TrainingRequest),
    "planRun": lambda body: decode_body(body, TrainingRequest),
    "prepareDataset": lambda body: decode_body(body, PrepareRequest),
    "beginUpload": lambda body: decode_body(body, UploadRequest),
    "registerAdapter": lambda body: decode_body(body, RegisterRequest),
    "renameAdapter": lambda body: decode_body(body, RenameRequest),
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
