"""The responses API over a real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import openai
import pydantic
import pytest
from litestar.testing import TestClient

from server.app import create_app
from server.settings import ServerSettings
from tests.server.responses.shapes import read_events
from tests.tiny import tiny_base

MESSAGES = [
    {"role": "system", "content": "你是诗人。"},
    {"role": "user", "content": "床前明月光，下一句是什么？"},
]


def respond(client: TestClient[Any], **fields: Any) -> dict[str, Any]:
    body = {"model": "tiny", "max_output_tokens": 24, "seed": 5, **fields}
    answer = client.post("/v1/responses", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def text_of(response: dict[str, Any]) -> str:
    return response["output"][0]["content"][0]["text"]


def test_a_response_says_what_a_chat_says(real_client: TestClient[Any]) -> None:
    """The same conversation, sampling and seed: the same text and logprobs, whole and streamed."""
    include = ["message.output_text.logprobs"]
    fields = {"input": MESSAGES, "include": include, "top_logprobs": 2}
    chat = {"model": "tiny", "messages": MESSAGES, "max_tokens": 24, "seed": 5}
    chat |= {"logprobs": True, "top_logprobs": 2}
    choice = real_client.post("/v1/chat/completions", json=chat).json()["choices"][0]
    whole = respond(real_client, **fields)
    body = {"model": "tiny", "max_output_tokens": 24, "seed": 5, "stream": True, **fields}
    events = read_events(real_client.post("/v1/responses", json=body).text)

    content = whole["output"][0]["content"][0]
    assert content["text"] == choice["message"]["content"] != ""
    assert content["logprobs"] == choice["logprobs"]["content"]
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert "".join(event["delta"] for event in deltas) == content["text"]
    assert [one for event in deltas for one in event["logprobs"]] == content["logprobs"]
    last = events[-1]["response"]
    assert last["output"][0]["content"] == whole["output"][0]["content"]
    assert last["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert respond(real_client, input=MESSAGES[1:], instructions="你是诗人。")["output"][0][
        "content"
    ][0]["text"] == text_of(whole)


def test_going_on_computes_only_what_is_new(real: Any) -> None:
    """The turn before is found again, reply included, and what follows is that without a cache."""
    with real() as client:
        # Random weights say bytes that are no text, which a next prompt cannot repeat.
        (letter,) = client.post("/tokenize", json={"prompt": "a"}).json()["tokens"]
        first = respond(client, input=MESSAGES, logit_bias={letter: 100})
        second = respond(client, input="再下一句呢？", previous_response_id=first["id"])
    with real(prefix_cache=False) as client:
        turns = [*MESSAGES, *first["output"], {"role": "user", "content": "再下一句呢？"}]
        plain = respond(client, input=turns)

    usage = second["usage"]
    before = first["usage"]["total_tokens"]
    assert usage["input_tokens"] > before
    assert usage["input_tokens_details"]["cached_tokens"] > before - 16
    assert plain["usage"]["input_tokens_details"]["cached_tokens"] == 0
    assert plain["usage"]["input_tokens"] == usage["input_tokens"]
    assert text_of(second) == text_of(plain)


def test_the_official_client_parses(real_client: TestClient[Any]) -> None:
    """A pydantic model goes in as a strict schema, and comes out filled; streamed too."""

    class Answer(pydantic.BaseModel):
        kind: Literal["猫", "狗"]
        count: Annotated[int, pydantic.Field(ge=1, le=9)]

    client = openai.OpenAI(
        base_url="http://127.0.0.1/v1", api_key="none", max_retries=0, http_client=real_client
    )
    given: Any = {"model": "tiny", "input": "几只？", "text_format": Answer, "temperature": 1.5}
    parsed = client.responses.parse(**given).output_parsed
    with client.responses.stream(**given) as stream:
        final = stream.get_final_response().output_parsed

    for answer in (parsed, final):
        assert isinstance(answer, Answer)
        assert 1 <= answer.count <= 9


@pytest.fixture
def roomy(settings: ServerSettings) -> Iterator[TestClient[Any]]:
    """A client of a server whose tiny base has room for functions in its prompts."""
    tiny_base(settings.home.bases / "tiny", max_position_embeddings=2048)
    changed = msgspec.structs.replace(settings, base="tiny", device="cpu")
    with TestClient(create_app(changed), base_url="http://127.0.0.1") as client:
        yield client


def test_a_real_call_is_made_and_answered(roomy: TestClient[Any]) -> None:
    """Held to its schema, the same whole and streamed; the turn is found again by the next."""
    name = {"type": "string", "enum": ["北京", "上海"]}
    schema = {"type": "object", "properties": {"city": name}, "required": ["city"]}
    tool = {
        "type": "function",
        "name": "weather",
        "parameters": schema | {"additionalProperties": False},
    }
    given = {"input": "天气？", "tools": [tool], "tool_choice": "required", "max_output_tokens": 99}
    given |= {"parallel_tool_calls": False}
    first = respond(roomy, **given)
    body = {"model": "tiny", "seed": 5, "stream": True, **given}
    streamed = read_events(roomy.post("/v1/responses", json=body).text)[-1]["response"]
    (call,) = first["output"]
    answer = {"type": "function_call_output", "call_id": call["call_id"], "output": "晴"}
    second = respond(roomy, input=[answer], tools=[tool], previous_response_id=first["id"])

    assert (call["type"], call["name"], call["status"]) == ("function_call", "weather", "completed")
    assert json.loads(call["arguments"])["city"] in ("北京", "上海")
    assert [each["arguments"] for each in streamed["output"]] == [call["arguments"]]
    cached = second["usage"]["input_tokens_details"]["cached_tokens"]
    assert cached > first["usage"]["input_tokens"]


def test_a_schema_that_cannot_be_used_is_refused(real_client: TestClient[Any]) -> None:
    """With the reason, under the name that the format has here."""
    bad = {"type": "wibble"}
    tools = [{"type": "function", "name": name} for name in ("good", "bad")]
    tools[1]["parameters"] = {"type": "object", "properties": {"a": bad}}  # type: ignore[assignment]
    allowed = {"type": "allowed_tools", "mode": "auto", "tools": tools[1:]}
    cases: dict[str, dict[str, Any]] = {
        "text.format": {"text": {"format": {"type": "json_schema", "name": "a", "schema": bad}}},
        "tools[1].parameters": {"tools": tools, "tool_choice": allowed},
    }
    for param, fields in cases.items():
        body = {"model": "tiny", "input": "x", **fields}
        error = real_client.post("/v1/responses", json=body).json()["error"]
        assert (error["param"], error["code"]) == (param, "invalid_json_schema")


def test_a_conversation_that_is_too_long_is_refused(real_client: TestClient[Any]) -> None:
    """Under the name that it has here."""
    response = real_client.post("/v1/responses", json={"model": "tiny", "input": "长" * 500})

    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, "input")
    assert error["code"] == "context_length_exceeded"
