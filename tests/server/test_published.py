"""Real answers against OpenAI's published schemas, and those schemas against OpenAI's client."""

from __future__ import annotations

import importlib
import json
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from adapters.home import Home
from server.background import serve_in_thread
from server.engine.errors import AdapterUnavailable, QueueFull
from server.settings import ServerSettings
from tests.conftest import LiveServer
from tests.fakes import Script
from tests.server.published import Schema, complaints, documents, objects
from tests.tiny import tiny_base
from tests.waiting import PATIENCE_S

MESSAGES = [{"role": "user", "content": "你好"}]
USAGE = {"stream_options": {"include_usage": True}}
SCHEMA = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"]}

TOOL = {
    "type": "function",
    "function": {
        "name": "say",
        "parameters": {
            "type": "object",
            "properties": {"n": {"enum": [1, 2]}},
            "required": ["n"],
            "additionalProperties": False,
        },
    },
}

CHATS: dict[str, dict[str, Any]] = {
    "plain": {},
    "cut off": {"max_tokens": 1},
    "several": {"n": 3, "seed": 1},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "logprobs of several": {"n": 2, "logprobs": True, "max_tokens": 4},
    "a stop string": {"stop": ["e", "a"], "logprobs": True},
    "json": {
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": SCHEMA},
        }
    },
}
CALLS: dict[str, dict[str, Any]] = {
    "a call": {"tool_choice": "required", "parallel_tool_calls": False},
    "several calls": {"tool_choice": "required", "n": 2},
    "a call that is cut off": {"tool_choice": "required", "max_tokens": 12},
    "a call or not": {"max_tokens": 12},
}
RESPONSES: dict[str, dict[str, Any]] = {
    "plain": {},
    "cut off": {"max_output_tokens": 2},
    "a conversation": {
        "instructions": "你是诗人。",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "你好"}]}],
    },
    "settings": {
        "temperature": 0.5,
        "metadata": {"a": "b"},
        "user": "me",
        "store": False,
        "reasoning": {"effort": "none"},
    },
    "logprobs": {"include": ["message.output_text.logprobs"], "top_logprobs": 2},
    "json": {"text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}},
    "a call": {
        "tools": [TOOL["function"] | {"type": "function", "strict": True}],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_output_tokens": 200,
    },
}
TEXTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "several": {"prompt": ["你好", "再见"], "n": 2},
    "tokens": {"prompt": [72, 73]},
    "echo": {"echo": True},
    "logprobs": {"logprobs": 2},
    "scored": {"echo": True, "logprobs": 2, "max_tokens": 0},
}
PARTS = Script(
    pieces=(
        *("<think>\n嗯", "\n</think>\n\n好", "的\n"),
        '<tool_call>\n{"name": "say", "arguments": {"n": 1}}\n</tool_call>',
    )
)


@dataclass(frozen=True)
class Api:
    """A live server."""

    url: str

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=PATIENCE_S)

    def whole(self, path: str, body: dict[str, Any]) -> Any:
        response = self.post(path, body)
        assert response.status_code == 200, response.text
        return response.json()

    def frames(self, path: str, body: dict[str, Any]) -> list[Any]:
        *frames, last = self.events(path, body)
        assert last == "[DONE]"
        return [json.loads(frame) for frame in frames]

    def events(self, path: str, body: dict[str, Any]) -> list[str]:
        frames = self.post(path, body | {"stream": True}).text.strip().split("\n\n")
        return [frame.partition("data: ")[2] for frame in frames]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A live server with a real model of random weights, and room for the prompts of tools."""
    home = Home(tmp_path_factory.mktemp("home"))
    base = tiny_base(home.bases / "tiny", max_position_embeddings=2048)
    settings = ServerSettings(home=home, base=str(base), port=0, device="cpu")
    with serve_in_thread(settings) as serving:
        yield Api(serving.api_url)


def named(schemas: dict[str, Schema]) -> list[Any]:
    """Every object that OpenAI's client has a type for."""
    return [
        pytest.param(schema, id=f"{name}:{schema['x-sdk'].rpartition('.')[2]}")
        for name, document in schemas.items()
        for schema in objects(document)
        if "x-sdk" in schema
    ]


@pytest.mark.parametrize("schema", named(documents()))
def test_the_facts_are_those_of_openais_client(schema: Schema) -> None:
    """Every property is one of the type's, what the type needs is required, and the names of
    kinds, reasons and states are the same.
    """
    module, _, name = schema["x-sdk"].rpartition(".")
    model = getattr(importlib.import_module(module), name)
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    needed = {name for name, field in fields.items() if field.is_required()}

    assert schema["properties"].keys() <= fields.keys()
    assert needed <= set(schema["required"]) <= schema["properties"].keys()
    assert not fields.keys() & set(schema.get("x-ours", ()))
    for name, described in schema["properties"].items():
        values = values_of(described)
        if values:
            assert values == literals(fields[name].annotation), name


def values_of(described: Schema) -> set[str]:
    """The texts that a property may be, if they are listed."""
    options = described.get("anyOf", [described])
    listed = [
        value
        for option in options
        for value in option.get("enum", [option["const"]] if "const" in option else [])
    ]
    return set(listed) - {None}


def literals(annotation: Any) -> set[str]:
    """The same of a type of the client, nested objects apart."""
    if typing.get_origin(annotation) is typing.Literal:
        return set(typing.get_args(annotation))
    return {value for part in typing.get_args(annotation) for value in literals(part)}


def test_a_wrong_answer_does_not_pass() -> None:
    """A field that is missing, one that is nobody's, and a wrong kind are seen."""
    right = {"id": "a", "object": "model", "created": 1, "owned_by": "us"}

    assert complaints(right | {"parent": None}, "model") == []
    assert complaints(right | {"object": "list"}, "model")
    assert complaints(right | {"colour": "red"}, "model")
    assert complaints({"id": "a", "object": "model", "created": 1}, "model")


@pytest.mark.parametrize("case", CHATS)
def test_chats(api: Api, case: str) -> None:
    """Whole, and every event of the stream, with and without usage."""
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 12} | CHATS[case]

    assert complaints(api.whole("/chat/completions", body), "chat.completion") == []
    for options in ({}, USAGE):
        for frame in api.frames("/chat/completions", body | options):
            assert complaints(frame, "chat.completion.chunk") == []


@pytest.mark.parametrize("case", CALLS)
def test_calls(api: Api, case: str) -> None:
    """Replies that call a function, whole and as a stream."""
    body = {"model": "tiny", "messages": MESSAGES, "tools": [TOOL], "max_tokens": 200}
    body |= CALLS[case]

    assert complaints(api.whole("/chat/completions", body), "chat.completion") == []
    for frame in api.frames("/chat/completions", body):
        assert complaints(frame, "chat.completion.chunk") == []


def test_thoughts_and_calls(live: LiveServer) -> None:
    """All parts that a reply may have."""
    body = {"model": "poet", "messages": MESSAGES, "tools": [TOOL], "reasoning_effort": "low"}
    with live(PARTS) as server:
        whole = Api(server.url).whole("/chat/completions", body)
        frames = Api(server.url).frames("/chat/completions", body | USAGE)

    message = whole["choices"][0]["message"]
    assert message.keys() == {"role", "content", "refusal", "reasoning_content", "tool_calls"}
    assert complaints(whole, "chat.completion") == []
    for frame in frames:
        assert complaints(frame, "chat.completion.chunk") == []


@pytest.mark.parametrize("case", RESPONSES)
def test_responses(api: Api, case: str) -> None:
    """Whole, as it is kept, and every event of the stream."""
    body = {"model": "tiny", "input": "你好", "max_output_tokens": 12} | RESPONSES[case]
    whole = api.whole("/responses", body)

    assert complaints(whole, "response") == []
    for event in api.events("/responses", body):
        assert complaints(json.loads(event), "response.event") == []
    if whole["store"]:
        assert httpx.get(f"{api.url}/responses/{whole['id']}").json() == whole


def test_a_response_of_all_parts(live: LiveServer) -> None:
    """Thoughts, an answer and a call; and one that fails."""
    with live(PARTS, PARTS, Script(fail_at=1)) as server:
        body = {
            "model": "poet",
            "input": "你好",
            "tools": [TOOL["function"] | {"type": "function"}],
            "reasoning": {"effort": "low"},
        }
        whole = Api(server.url).whole("/responses", body)
        events = Api(server.url).events("/responses", body)
        failing = Api(server.url).events("/responses", body)

    assert [item["type"] for item in whole["output"]] == ["reasoning", "message", "function_call"]
    assert complaints(whole, "response") == []
    assert json.loads(failing[-1])["type"] == "response.failed"
    for event in events + failing:
        assert complaints(json.loads(event), "response.event") == []


@pytest.mark.parametrize("case", TEXTS)
def test_text_completions(api: Api, case: str) -> None:
    """Whole, where every choice has a reason, and every event of the stream."""
    body = {"model": "tiny", "prompt": "你好", "max_tokens": 6} | TEXTS[case]
    whole = api.whole("/completions", body)

    assert complaints(whole, "text_completion") == []
    assert all(choice["finish_reason"] for choice in whole["choices"])
    if not TEXTS[case].get("echo"):
        for frame in api.frames("/completions", body | USAGE):
            assert complaints(frame, "text_completion") == []


def test_models(api: Api, live: LiveServer) -> None:
    """The list and each card, of the base and of adapters."""
    with live() as scripted:
        for url in (api.url, scripted.url):
            listed = httpx.get(f"{url}/models").json()
            assert complaints(listed, "list") == []
            for card in listed["data"]:
                one = httpx.get(f"{url}/models/{card['id']}").json()
                assert complaints(one, "model") == []


def chat(**changes: Any) -> dict[str, Any]:
    """A request to ``live``: how httpx is to send it."""
    request = {
        "method": "POST",
        "url": "/chat/completions",
        "headers": {"authorization": "Bearer key"},
        "json": {"model": "poet", "messages": MESSAGES},
    }
    return request | changes


KEY = {"authorization": "Bearer key"}
ERRORS: dict[int, dict[str, Any]] = {
    400: chat(json={"model": "poet"}),
    401: chat(headers={}),
    403: chat(headers=KEY | {"origin": "http://elsewhere.example"}),
    404: chat(json={"model": "nobody", "messages": MESSAGES}),
    405: chat(method="PUT"),
    413: chat(json={"model": "poet", "messages": MESSAGES, "user": "x" * 5000}),
    415: chat(json=None, content=b"{}", headers=KEY | {"content-type": "text/plain"}),
    421: chat(headers=KEY | {"host": "elsewhere.example"}),
    429: chat(),
    500: chat(),
    503: chat(),
}
SCRIPTS = {
    429: Script(refusal=QueueFull(64, 1.0)),
    500: Script(fail_at=0),
    503: Script(refusal=AdapterUnavailable("poet", "its files are gone")),
}


@pytest.mark.parametrize("status", ERRORS)
def test_errors(live: LiveServer, status: int) -> None:
    """Of every status that there is."""
    script = SCRIPTS.get(status, Script())
    with (
        live(script, api_key="key", max_body_bytes=4000) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        response = client.request(**ERRORS[status])

    assert response.status_code == status
    assert complaints(response.json(), "error") == []


def test_a_stream_that_breaks_off(live: LiveServer) -> None:
    """What was sent before is as always; the last event is an error."""
    with live(Script(fail_at=1)) as server:
        body = {"model": "poet", "messages": MESSAGES} | USAGE
        *frames, last = Api(server.url).frames("/chat/completions", body)

    assert len(frames) == 2
    assert [complaints(frame, "chat.completion.chunk") for frame in frames] == [[], []]
    assert complaints(last, "error") == []
