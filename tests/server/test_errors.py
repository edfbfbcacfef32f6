"""Every refusal and failure is OpenAI's error object with all four keys."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from litestar.testing import TestClient

from server.engine.errors import (
    AdapterUnavailable,
    AdapterUnreadable,
    EngineClosed,
    EngineError,
    GenerationFailed,
    GrammarInvalid,
    PromptInvalid,
    PromptTooLong,
    QueueFull,
    SamplingInvalid,
    UnknownModel,
)
from server.errors import problem_of
from tests.fakes import Script, ScriptedEngine

JSON = {"content-type": "application/json"}
CHAT = "/v1/chat/completions"
ASKED = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}


def error_of(response: Any) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-request-id"]
    body = response.json()
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    assert isinstance(body["error"]["message"], str)
    return body["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/v1", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/models/../../etc/passwd", 404),
        ("GET", "/schema", 404),
        ("GET", "/%00%ff", 404),
        ("GET", "/v1/" + "x" * 5000, 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models/poet", 405),
        ("PUT", "/health", 405),
        ("BREW", "/health", 405),
    ],
)
def test_what_does_not_exist_has_the_error_shape(
    client: TestClient[Any], method: str, path: str, status: int
) -> None:
    """Unknown paths and methods answer as everything else does, without echoing much."""
    response = client.request(method, path)

    assert response.status_code == status
    assert len(error_of(response)["message"]) < 400


def test_405_says_what_is_allowed(client: TestClient[Any]) -> None:
    """The ``Allow`` header that HTTP demands."""
    assert client.get(CHAT).headers["allow"] == "POST, OPTIONS"
    assert client.post("/v1/models/a/b").headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/jsonp"},
        {**JSON, "content-encoding": "gzip"},
    ],
)
def test_a_body_has_to_be_plain_json(
    client: TestClient[Any], engine: ScriptedEngine, headers: dict[str, str]
) -> None:
    """415 for what a web form could send, and for compressed bodies (which could explode)."""
    response = client.post(CHAT, content=b'{"model": "base"}', headers=headers)

    assert response.status_code == 415
    assert "JSON" in error_of(response)["message"] or "Compressed" in error_of(response)["message"]
    assert engine.requests == []


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
def test_malformed_json_is_the_clients_mistake(client: TestClient[Any], raw: bytes) -> None:
    """400, also where a parser would raise something unusual."""
    response = client.post(CHAT, content=raw, headers=JSON)

    assert response.status_code == 400
    assert error_of(response)["type"] == "invalid_request_error"


def test_a_large_body_is_refused(client: TestClient[Any]) -> None:
    """413 beyond 2 MB, announced or not; just below it is read."""
    text = "x" * 2_000_000

    announced = client.post(CHAT, content=text.encode(), headers=JSON)
    over = client.post(CHAT, content=iter([b"x" * 1_000_001] * 2), headers=JSON)
    under = client.post(CHAT, json=ASKED | {"messages": [{"role": "user", "content": text[:-999]}]})

    assert under.status_code == 200
    assert announced.status_code == 400  # exactly the limit is read, and is no JSON
    assert over.status_code == 413
    message = "The request body is too large: this server reads at most 2,000,000 bytes."
    assert error_of(over)["message"] == message


ENGINE_ERRORS = [
    (UnknownModel("x"), 404, "invalid_request_error", "model", "model_not_found"),
    (PromptInvalid("empty"), 400, "invalid_request_error", "messages", None),
    (
        PromptTooLong(90, 20, 100),
        400,
        "invalid_request_error",
        "messages",
        "context_length_exceeded",
    ),
    (SamplingInvalid("logit_bias", "no."), 400, "invalid_request_error", "logit_bias", None),
    (
        GrammarInvalid("no."),
        400,
        "invalid_request_error",
        "response_format",
        "invalid_json_schema",
    ),
    (QueueFull(64, 2.2), 429, "rate_limit_error", None, "queue_full"),
    (AdapterUnavailable("x", "bad"), 503, "server_error", "model", "adapter_unavailable"),
    (AdapterUnreadable("y", "busy"), 503, "server_error", "model", "adapter_unavailable"),
    (EngineClosed(), 503, "server_error", None, "shutting_down"),
    (GenerationFailed("lost"), 500, "server_error", None, "generation_failed"),
]


@pytest.mark.parametrize(
    ("refusal", "status", "kind", "param", "code"), ENGINE_ERRORS, ids=lambda value: str(value)[:20]
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_engine_refuses_has_its_status(
    client: TestClient[Any],
    engine: ScriptedEngine,
    stream: bool,
    refusal: EngineError,
    status: int,
    kind: str,
    param: str | None,
    code: str | None,
) -> None:
    """Status, type, parameter and code follow from the error; the message is its own text."""
    engine._scripts = [Script(refusal=refusal)]

    response = client.post(CHAT, json=ASKED | {"stream": stream})

    assert response.status_code == status
    assert error_of(response) == {
        "message": str(refusal),
        "type": kind,
        "param": param,
        "code": code,
    }


def test_every_engine_error_has_a_status_of_its_own() -> None:
    """A new kind of engine error cannot be forgotten here."""
    for kind in EngineError.__subclasses__():
        error = next(error for error, *_ in ENGINE_ERRORS if type(error) is kind)
        assert problem_of(error).message == str(error)


def test_a_full_queue_says_when_to_come_back(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """``retry-after`` in whole seconds, rounded up, never zero."""
    engine._scripts = [Script(refusal=QueueFull(9, 2.2)), Script(refusal=QueueFull(9, 0.0))]

    assert client.post(CHAT, json=ASKED).headers["retry-after"] == "3"
    assert client.post(CHAT, json=ASKED).headers["retry-after"] == "1"


def test_a_broken_adapter_is_not_retried(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """OpenAI's clients retry 503 by themselves unless told not to; what will pass is retried."""
    refusals = AdapterUnavailable("poet", "it lacks a tensor"), AdapterUnreadable("poet", "busy")
    engine._scripts = [Script(refusal=refusal) for refusal in refusals]

    assert client.post(CHAT, json=ASKED).headers["x-should-retry"] == "false"
    headers = client.post(CHAT, json=ASKED).headers
    assert (headers["retry-after"], "x-should-retry" in headers) == ("5", False)


def test_a_bug_reveals_nothing(
    client: TestClient[Any], engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """The client learns the request's id; the log has that id and the cause."""
    engine._scripts = [Script(refusal=RuntimeError("/secret/path"))]

    with caplog.at_level(logging.ERROR, logger="server.errors"):
        response = client.post(CHAT, json=ASKED, headers={"x-request-id": "mine-1"})

    assert response.status_code == 500
    assert "secret" not in response.text
    assert "mine-1" in error_of(response)["message"]
    assert "mine-1" in caplog.text
    assert "/secret/path" in caplog.text
