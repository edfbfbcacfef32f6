"""Tools in chats, over scripted replies: what clients see, and what the engine is asked for."""

from __future__ import annotations

import json
from typing import Any

import openai
import pydantic
import pytest
from litestar.testing import TestClient

from server.engine.errors import GrammarInvalid
from server.engine.types import Dialect, Function, Shape, TokenLogprobs
from tests.conftest import LiveServer
from tests.fakes import Script, ScriptedEngine, card
from tests.server.asking import USER, ask, frames

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "某地的天气",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
NOW: dict[str, Any] = {"type": "function", "function": {"name": "now", "strict": True}}
NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
TOOLS = [WEATHER, NOW]
CALLS = (
    *("我看看", "\n<tool_", 'call>\n{"name": "get_weather", ', '"arguments": {"city"', ': "北京"'),
    *("}}\n</tool_call>\n", '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'),
)
CALL = CALLS[1:6]


def functions_of(engine: ScriptedEngine) -> list[str]:
    return [function.name for function in engine.shapes[-1].functions]


def test_a_loop_with_the_official_client(live: LiveServer) -> None:
    """The model calls two functions, is told what they return, and answers."""
    with live(Script(pieces=CALLS), Script(pieces=("晴", "，三点"))) as server:
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        messages: list[Any] = [USER]
        first = client.chat.completions.create(model="poet", messages=messages, tools=TOOLS)
        message = first.choices[0].message
        assert message.tool_calls is not None
        messages.append(message)
        for call, result in zip(message.tool_calls, ("晴", "三点"), strict=True):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        second = client.chat.completions.create(model="poet", messages=messages, tools=TOOLS)
        asked = server.engine.prompts[1]

    assert (first.choices[0].finish_reason, message.content) == ("tool_calls", "我看看")
    assert [call.function.name for call in message.tool_calls] == ["get_weather", "now"]
    assert [call.function.arguments for call in message.tool_calls] == ['{"city": "北京"}', "{}"]
    assert second.choices[0].message.content == "晴，三点"
    assert second.choices[0].message.tool_calls is None
    assert [one["role"] for one in asked] == ["user", "assistant", "tool", "tool"]
    assert asked[1]["tool_calls"][0]["function"]["arguments"] == {"city": "北京"}
    assert [one.get("tool_call_id") for one in asked[2:]] == [
        call["id"] for call in asked[1]["tool_calls"]
    ]


def test_the_same_loop_in_streams(live: LiveServer) -> None:
    """The client's own accumulation of our chunks is a message that it may send back."""
    with live(Script(pieces=CALLS), Script(pieces=("晴",))) as server:
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        with client.chat.completions.stream(model="poet", messages=[USER], tools=TOOLS) as stream:
            events = [event.type for event in stream]
            final = stream.get_final_completion()
        message = final.choices[0].message
        assert message.tool_calls is not None
        results: list[Any] = [
            {"role": "tool", "tool_call_id": call.id, "content": "晴"}
            for call in message.tool_calls
        ]
        answer = client.chat.completions.create(
            model="poet", messages=[USER, message.model_dump(), *results], tools=TOOLS
        )

    assert final.choices[0].finish_reason == "tool_calls"
    assert "tool_calls.function.arguments.delta" in events
    assert (message.content, len(message.tool_calls)) == ("我看看", 2)
    assert message.tool_calls[0].function.arguments == '{"city": "北京"}'
    assert answer.choices[0].message.content == "晴"


def test_arguments_become_objects_of_the_clients(live: LiveServer) -> None:
    """With ``parse``, as for a reply of a given shape."""

    class GetWeather(pydantic.BaseModel):
        city: str

    tool = openai.pydantic_function_tool(GetWeather, name="get_weather")
    with live(Script(pieces=CALL)) as server:
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        reply = client.chat.completions.parse(model="poet", messages=[USER], tools=[tool])

    calls = reply.choices[0].message.tool_calls
    assert calls is not None
    assert calls[0].function.parsed_arguments == GetWeather(city="北京")


def test_a_streams_frames_are_openais(live: LiveServer) -> None:
    """The first of a call has index, id, type, name and empty arguments; then arguments grow."""
    with live(Script(pieces=CALLS)) as server:
        told = frames(server, tools=TOOLS)
    choices = [frame["choices"][0] for frame in told]
    deltas = [choice["delta"] for choice in choices]
    ids = [call["id"] for delta in deltas for call in delta.get("tool_calls", []) if "id" in call]

    def first(index: int, name: str) -> dict[str, Any]:
        function = {"name": name, "arguments": ""}
        call = {"index": index, "id": ids[index], "type": "function", "function": function}
        return {"tool_calls": [call]}

    def more(index: int, arguments: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}

    assert deltas == [
        {"role": "assistant", "content": ""},
        {"content": "我看看"},
        first(0, "get_weather"),
        more(0, '{"city"'),
        more(0, ': "北京"'),
        more(0, "}"),
        first(1, "now"),
        more(1, "{}"),
        {},
    ]
    assert [choice["finish_reason"] for choice in choices] == [*[None] * 8, "tool_calls"]
    assert len(set(ids)) == 2


def test_a_reply_of_calls_alone_has_no_content(live: LiveServer) -> None:
    """Null, whole and in the first frame of a stream."""
    with live(Script(pieces=CALL)) as server:
        told = frames(server, tools=TOOLS)
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        whole = client.chat.completions.create(model="poet", messages=[USER], tools=TOOLS)

    assert told[0]["choices"][0]["delta"] == {"role": "assistant", "content": None}
    assert whole.choices[0].message.content is None


def test_a_whole_message_has_openais_shape_to_the_letter(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """What it has none of is not there; each of several replies has calls of its own."""
    engine._scripts = [Script(pieces=CALL), Script(pieces=("不用",))]
    choices = ask(client, tools=TOOLS, n=2).json()["choices"]

    (call,) = choices[0]["message"]["tool_calls"]
    assert call.pop("id").startswith("call_")
    assert call == {
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "北京"}'},
    }
    choices[0]["message"].pop("tool_calls")
    assert [choice["message"] for choice in choices] == [
        {"role": "assistant", "content": None, "refusal": None},
        {"role": "assistant", "content": "不用", "refusal": None},
    ]
    assert [choice["finish_reason"] for choice in choices] == ["tool_calls", "stop"]


@pytest.mark.parametrize(
    ("pieces", "reason", "content"),
    [
        (("<tool_call>\n{}\n", "</tool_call>"), "stop", "<tool_call>\n{}\n</tool_call>"),
        (("好 <tool", "_call"), "length", "好 <tool_call"),
        (
            ('<tool_call>\n{"name": "rm", "arguments": {}}', "\n</tool_call>"),
            "stop",
            '<tool_call>\n{"name": "rm", "arguments": {}}\n</tool_call>',
        ),
    ],
)
def test_what_is_no_call_is_content(
    live: LiveServer, pieces: tuple[str, ...], reason: Any, content: str
) -> None:
    """Whole and streamed, with nothing lost."""
    with live(Script(pieces=pieces, reason=reason)) as server:
        told = [frame["choices"][0] for frame in frames(server, tools=TOOLS)]
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        whole = client.chat.completions.create(model="poet", messages=[USER], tools=TOOLS)

    assert "".join(choice["delta"].get("content") or "" for choice in told) == content
    assert whole.choices[0].message.content == content
    assert whole.choices[0].message.tool_calls is None
    assert whole.choices[0].finish_reason == told[-1]["finish_reason"] == reason


@pytest.mark.parametrize("reason", ["stop", "length"])
def test_a_call_that_is_cut_off_is_not_to_be_answered(
    client: TestClient[Any], engine: ScriptedEngine, reason: Any
) -> None:
    """By a stop string or the most tokens: the reason says that something is missing."""
    engine._scripts = [Script(pieces=CALL[:3], reason=reason)]
    (choice,) = ask(client, tools=TOOLS).json()["choices"]

    assert choice["finish_reason"] == reason
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"city"'


WEATHER_FUNCTION = Function(name="get_weather", parameters=WEATHER["function"]["parameters"])
NOW_FUNCTION = Function(name="now", parameters=NO_ARGUMENTS)
BOTH = (WEATHER_FUNCTION, NOW_FUNCTION)
ANSWER = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string"}}}


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({"tools": TOOLS}, Shape(functions=BOTH)),
        ({"tools": TOOLS, "tool_choice": "auto"}, Shape(functions=BOTH)),
        ({"tools": TOOLS, "parallel_tool_calls": False}, Shape(functions=BOTH, at_most_one=True)),
        ({"tools": TOOLS, "tool_choice": "required"}, Shape(functions=BOTH, must_call=True)),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "now"}}},
            Shape(functions=(NOW_FUNCTION,), must_call=True, at_most_one=True),
        ),
        (
            {"tools": TOOLS, "response_format": ANSWER},
            Shape(schema={"type": "string"}, functions=BOTH),
        ),
        (
            {"tools": TOOLS, "tool_choice": "none", "response_format": ANSWER},
            Shape(schema={"type": "string"}),
        ),
        (
            {"tools": TOOLS, "reasoning_effort": "low"},
            Shape(functions=BOTH, thought="possible"),
        ),
        ({"tools": TOOLS, "tool_choice": "none"}, None),
        ({"tools": []}, None),
        ({"tools": [], "tool_choice": "auto"}, None),
        ({"tool_choice": "none"}, None),
    ],
    ids=str,
)
def test_what_each_choice_holds_replies_to(
    client: TestClient[Any], engine: ScriptedEngine, fields: dict[str, Any], shape: Shape | None
) -> None:
    """The grammar is the engine's; without a shape there is none."""
    assert ask(client, **fields).status_code == 200

    assert engine.shapes == ([] if shape is None else [shape])
    assert (engine.requests[0].sampling.grammar is None) == (shape is None)


def test_the_prompt_shows_what_was_said_of_a_tool(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """In Qwen's order; a function without parameters takes none, and ``strict`` is for us."""
    ask(client, tools=TOOLS)

    assert [json.dumps(tool) for tool in engine.prompted[0]["tools"]] == [
        json.dumps(WEATHER),
        json.dumps({"type": "function", "function": {"name": "now", "parameters": NO_ARGUMENTS}}),
    ]


def test_with_no_choice_tools_are_as_if_not_there(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Neither shown nor read: what the model writes is content."""
    engine._scripts = [Script(pieces=CALL)]
    (choice,) = ask(client, tools=TOOLS, tool_choice="none").json()["choices"]

    assert engine.prompted[0]["tools"] == []
    assert choice["message"]["content"] == "".join(CALL)
    assert choice["finish_reason"] == "stop"


def test_a_schema_that_cannot_be_used_is_located(
    client: TestClient[Any], engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the place of its tool in the request, or of the answer's; all together are the tools'."""
    choice = {"type": "function", "function": {"name": "now"}}
    cases: list[tuple[int | None, dict[str, Any], str]] = [
        (1, {}, "tools[1].function.parameters"),
        (0, {"tool_choice": choice}, "tools[1].function.parameters"),
        (None, {}, "tools"),
        (None, {"response_format": ANSWER}, "response_format"),
    ]
    for function, fields, param in cases:

        async def refuse(_: Shape, function: int | None = function) -> Any:
            raise GrammarInvalid("no good.", function)

        monkeypatch.setattr(engine, "grammar", refuse)
        response = ask(client, tools=TOOLS, **fields)
        error = response.json()["error"]
        assert response.status_code == 400
        assert (error["param"], error["code"]) == (param, "invalid_json_schema")
        assert error["message"] == f"{param}: The JSON schema cannot be used: no good."


ARGUMENTS_PARAM = "messages[1].tool_calls[0].function.arguments"


@pytest.mark.parametrize(
    ("arguments", "param"),
    [
        ('{"a": 1}', None),
        ("", None),
        (" ", None),
        ("{", ARGUMENTS_PARAM),
        ("[]", ARGUMENTS_PARAM),
        ('"a"', ARGUMENTS_PARAM),
        ('{"a": "\\ud800"}', ARGUMENTS_PARAM),
        ('{"a":' * 100_000, ARGUMENTS_PARAM),
    ],
    ids=lambda value: str(value)[:20],
)
def test_arguments_of_earlier_calls_are_objects(
    client: TestClient[Any], arguments: str, param: str | None
) -> None:
    """As text; no text means none. Chat templates write them in their own way."""
    function = {"name": "now", "arguments": arguments}
    call = {"id": "a", "type": "function", "function": function}
    messages = [
        USER,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "三点"}]},
    ]

    response = ask(client, messages=messages)

    assert response.status_code == (200 if param is None else 400)
    assert response.json().get("error", {}).get("param") == param


CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
}
RETURNED = {"role": "tool", "tool_call_id": "a", "content": "三点"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": TOOLS}, "tools"),
        ({"tools": TOOLS, "tool_choice": "required"}, "tools"),
        ({"messages": [USER, CALLED]}, "messages[1].tool_calls"),
        ({"messages": [USER, CALLED, RETURNED]}, "messages[1].tool_calls"),
        ({"tools": []}, None),
        ({"tools": TOOLS, "tool_choice": "none"}, None),
        ({"messages": [USER, {"role": "assistant", "content": "x", "tool_calls": []}]}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_a_base_without_functions_refuses_them(
    client: TestClient[Any],
    engine: ScriptedEngine,
    path: str,
    fields: dict[str, Any],
    param: str | None,
) -> None:
    """Its template would leave them out, and nobody would be told."""
    engine.dialect = Dialect()
    response = client.post(path, json={"model": "poet", "messages": [USER], **fields})

    assert response.status_code == (200 if param is None else 400)
    if param is not None:
        error = response.json()["error"]
        assert (error["param"], error["code"]) == (param, "unsupported_parameter")
        assert error["message"].startswith(f"{param}: the chat template of this server's base")


@pytest.mark.parametrize("model", ["pocket", "cat"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_an_old_pocket_is_to_be_built_anew(
    client: TestClient[Any], engine: ScriptedEngine, path: str, model: str
) -> None:
    """Whoever built it before its template knew functions is told the command that helps."""
    engine.dialect = Dialect()
    engine.cards = [card("pocket"), card("cat", "pocket")]
    response = client.post(path, json={"model": model, "messages": [USER], "tools": TOOLS})

    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"]) == ("tools", "unsupported_parameter")
    assert error["message"].startswith("tools: this server's 'pocket'")
    assert "`lccc-admin base pocket --rebuild`" in error["message"]


def test_logprobs_are_of_the_content(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """A token of the scripted engine is a byte, so here one stands for a piece."""
    logprobs = tuple(TokenLogprobs(97 + index, -0.5) for index in range(2))
    engine._scripts = [Script(pieces=("a", "b", *CALL), logprobs=logprobs)]
    (choice,) = ask(client, tools=TOOLS, logprobs=True).json()["choices"]

    assert choice["message"]["content"] == "ab"
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["a", "b"]


def test_replies_of_calls_alone_have_no_logprobs(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """The list is there, and empty."""
    engine._scripts = [Script(pieces=CALL)]
    (choice,) = ask(client, tools=TOOLS, logprobs=True).json()["choices"]

    assert choice["logprobs"] == {"content": [], "refusal": None}
