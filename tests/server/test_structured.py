"""``response_format`` over a real engine: what comes out is JSON of the schema, by construction."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import msgspec
import openai
import pydantic
import pytest
from litestar.testing import TestClient
from msgspec import Meta, Struct

from tests.fakes import ScriptedEngine
from tests.server.asking import ask, joined, streamed


class Place(Struct, forbid_unknown_fields=True):
    city: Annotated[str, Meta(max_length=6)]
    population: Annotated[int, Meta(ge=0, le=10**8)]


class Person(Struct, forbid_unknown_fields=True):
    name: Annotated[str, Meta(max_length=8)]
    age: Annotated[int, Meta(ge=0, le=150)]
    mood: Literal["好", "坏", '"quoted"']
    places: Annotated[list[Place], Meta(max_length=2)]
    height: Annotated[int, Meta(ge=0, le=300)] | None


def asked(response_format: Any, **fields: Any) -> dict[str, Any]:
    return {
        "model": "tiny",
        "messages": [{"role": "user", "content": "你是谁？"}],
        "max_tokens": 400,
        "temperature": 1.5,
        "response_format": response_format,
        **fields,
    }


def of_schema(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def test_replies_are_of_the_schema(real_client: TestClient[Any]) -> None:
    """Whatever a model of random weights would rather say: nesting, enums, bounds and nulls."""
    body = asked(of_schema(msgspec.json.schema(Person)), n=4, seed=1)
    whole = real_client.post("/v1/chat/completions", json=body).json()
    frames = streamed(real_client, "/v1/chat/completions", body)
    replies = [choice["message"]["content"] for choice in whole["choices"]]

    assert [choice["finish_reason"] for choice in whole["choices"]] == ["stop"] * 4
    assert len(set(replies)) == 4
    for index, reply in enumerate(replies):
        msgspec.json.decode(reply, type=Person)
        assert joined(frames, index, lambda one: one["delta"].get("content"))[0] == reply


def test_greedy_replies_end_too(real_client: TestClient[Any]) -> None:
    """White space and numbers, with which a model could go on for ever, come to an end."""
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["n"],
        "additionalProperties": False,
    }
    body = asked(of_schema(schema), temperature=0)
    choice = real_client.post("/v1/chat/completions", json=body).json()["choices"][0]

    assert choice["finish_reason"] == "stop"
    assert 0 <= json.loads(choice["message"]["content"])["n"] <= 99


def test_any_object_is_an_object(real_client: TestClient[Any]) -> None:
    """``json_object`` asks for braces; a reply that is cut off by its length says so."""
    body = asked({"type": "json_object"}, n=6, max_tokens=120, seed=2)
    choices = real_client.post("/v1/chat/completions", json=body).json()["choices"]

    for choice in choices:
        text = choice["message"]["content"]
        assert text.startswith("{")
        if choice["finish_reason"] == "stop":
            assert isinstance(json.loads(text), dict)


def test_the_official_clients_parse(real_client: TestClient[Any]) -> None:
    """A pydantic model goes in as a strict schema, and comes out filled."""

    class Answer(pydantic.BaseModel):
        kind: Literal["猫", "狗"]
        count: Annotated[int, pydantic.Field(ge=1, le=9)]

    client = openai.OpenAI(
        base_url="http://127.0.0.1/v1", api_key="none", max_retries=0, http_client=real_client
    )
    completion = client.chat.completions.parse(
        model="tiny",
        messages=[{"role": "user", "content": "几只？"}],
        response_format=Answer,
        max_tokens=99,
    )

    parsed = completion.choices[0].message.parsed
    assert parsed is not None
    assert parsed.kind in ("猫", "狗")
    assert 1 <= parsed.count <= 9


def test_properties_come_in_the_schemas_order(real_client: TestClient[Any]) -> None:
    """A model that is to reason before it answers depends on it."""
    names = ["zeta", "alpha", "mid"]
    schema = {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in names},
        "required": sorted(names),
        "additionalProperties": False,
    }
    other = schema | {"properties": {name: {"type": "boolean"} for name in sorted(names)}}
    for asked_for, expected in ((schema, names), (other, sorted(names))):
        body = asked(of_schema(asked_for))
        text = real_client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"][
            "content"
        ]
        assert list(json.loads(text)) == expected


DEEP: dict[str, Any] = {"type": "string"}
for _ in range(70):
    DEEP = {"type": "array", "items": DEEP}

SLOW = {
    "allOf": [{"type": "string", "pattern": f"(a|b)*a(a|b){{{n}}}"} for n in range(5, 40)],
}

REFUSED = {
    "slow": SLOW,
    "very many properties": {
        "type": "object",
        "properties": {f"p{n}": {"type": "string"} for n in range(2000)},
    },
    "a reference to nowhere": {"$ref": "#/$defs/none"},
    "no type": {"type": "wibble"},
    "no pattern": {"type": "string", "pattern": "(["},
    "nothing possible": {"type": "integer", "minimum": 5, "maximum": 4},
    "itself": {"$ref": "#"},
    "nested without end": DEEP,
    "large": {"type": "string", "enum": ["x" * 70_000]},
}


@pytest.mark.parametrize("schema", REFUSED.values(), ids=REFUSED.keys())
def test_a_schema_that_cannot_be_used_is_refused_with_the_reason(
    real_client: TestClient[Any], schema: dict[str, Any]
) -> None:
    """Status 400, before anything is computed; the server goes on."""
    response = real_client.post("/v1/chat/completions", json=asked(of_schema(schema)))

    error = response.json()["error"]
    assert response.status_code == 400, response.text
    assert (error["param"], error["code"]) == ("response_format", "invalid_json_schema")
    assert len(error["message"]) > len("The JSON schema cannot be used: ")
    assert real_client.get("/ready").status_code == 200


@pytest.mark.parametrize(
    ("response_format", "schemas"),
    [
        (None, []),
        ({"type": "text"}, []),
        ({"type": "json_object"}, [{"type": "object"}]),
        (of_schema(None), [{"type": "object"}]),
        (of_schema({"type": "string"}), [{"type": "string"}]),
    ],
    ids=str,
)
def test_what_each_format_asks_of_the_engine(
    client: TestClient[Any], engine: ScriptedEngine, response_format: Any, schemas: list[Any]
) -> None:
    """Text asks for nothing."""
    assert ask(client, response_format=response_format).status_code == 200

    assert [shape.schema for shape in engine.shapes] == schemas
    assert (engine.requests[0].sampling.grammar is None) == (not schemas)


@pytest.mark.parametrize(
    ("response_format", "param"),
    [
        ({"type": "xml"}, "response_format.type"),
        ({}, "response_format.type"),
        ("json", "response_format"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {}}, "response_format.json_schema.name"),
        (
            {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}},
            "response_format.json_schema.name",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "schema": []}},
            "response_format.json_schema.schema",
        ),
    ],
    ids=str,
)
def test_a_malformed_format_is_located(
    client: TestClient[Any], response_format: Any, param: str
) -> None:
    """By the path of the field."""
    response = ask(client, response_format=response_format)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param)
