"""Functions and thoughts in ``/v1/responses``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from litestar.testing import TestClient
from openai.types.responses import FunctionToolParam, ResponseFunctionToolCall

from adapters.manifest import SamplingDefaults
from server.engine.types import Dialect
from tests.fakes import Script, ScriptedEngine, card
from tests.server.responses.asking import events, made, play, post, refused, sdk
from tests.server.responses.shapes import checked_response

ADD: FunctionToolParam = {
    "type": "function",
    "name": "add",
    "description": "加法",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        "required": ["a", "b"],
        "additionalProperties": False,
    },
    "strict": True,
}
NOW: FunctionToolParam = {"type": "function", "name": "now", "parameters": None, "strict": None}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
THOUGHT = "<think>\n一加二。\n</think>\n\n"


def pieces(text: str) -> Script:
    """As a model writes it, a few characters at a time."""
    return Script(pieces=tuple(text[at : at + 3] for at in range(0, len(text), 3)))


@pytest.mark.parametrize("by_id", [True, False])
def test_a_call_is_made_and_answered(
    client: TestClient[Any], engine: ScriptedEngine, by_id: bool
) -> None:
    """The official client's loop, by the response's id or with all items sent back."""
    play(engine, pieces(THOUGHT + "我来算。" + CALL), Script(pieces=("三",)))
    create = sdk(client).responses.create
    given: Any = {"model": "poet", "tools": [ADD, NOW], "reasoning": {"effort": "low"}}
    turn: Any = {"role": "user", "content": "1+2?"}
    first = create(input=[turn], **given)
    (call,) = [item for item in first.output if isinstance(item, ResponseFunctionToolCall)]
    answer = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
    if by_id:
        last = create(input=[answer], previous_response_id=first.id, **given)
    else:
        last = create(input=[turn, *first.output, answer], **given)

    assert [item.type for item in first.output] == ["reasoning", "message", "function_call"]
    assert first.output_text == "我来算。"
    assert (call.name, json.loads(call.arguments)) == ("add", {"a": 1, "b": 2})
    assert last.output_text == "三"
    call_shown = {"name": "add", "arguments": {"a": 1, "b": 2}}
    assert engine.prompts[1] == [
        turn,
        {
            "role": "assistant",
            "content": "我来算。",
            "reasoning_content": "一加二。",
            "tool_calls": [{"id": call.call_id, "type": "function", "function": call_shown}],
        },
        {"role": "tool", "content": "3", "tool_call_id": call.call_id},
    ]


def test_thoughts_and_calls_in_a_stream(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """Each item grows between its own events, and the stream ends with what a whole one is."""
    play(engine, pieces(THOUGHT + "好" + CALL + "\n" + CALL))
    given: dict[str, Any] = {"tools": [ADD], "reasoning": {"effort": "high"}}
    found, whole = events(client, **given), made(client, **given)

    kinds = [event["item"]["type"] for event in found if "output_item.added" in event["type"]]
    assert kinds == ["reasoning", "message", "function_call", "function_call"]
    ended = found[-1]["response"]
    assert found[-1]["type"] == "response.completed"
    assert [strip(item) for item in ended["output"]] == [strip(item) for item in whole["output"]]
    thought, _, first, second = ended["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "一加二。"}]
    assert thought["summary"] == []
    for index, call in ((2, first), (3, second)):
        own = [event for event in found if event.get("output_index") == index]
        grown = "".join(event["delta"] for event in own if "delta" in event)
        assert grown == call["arguments"]
        assert json.loads(grown) == {"a": 1, "b": 2}
        (done,) = [event for event in own if event["type"].endswith("arguments.done")]
        assert (done["name"], done["arguments"]) == ("add", grown)
    assert first["call_id"] != second["call_id"]
    assert 0 < ended["usage"]["output_tokens_details"]["reasoning_tokens"] < 10
    assert ended["reasoning"]["effort"] == "high"


def strip(item: dict[str, Any]) -> dict[str, Any]:
    """An item without what is drawn anew each time."""
    return {name: value for name, value in item.items() if name not in ("id", "call_id")}


def test_the_clients_helper_reads_calls(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """``responses.stream`` parses the arguments of a strict function."""
    play(engine, pieces(CALL))
    with sdk(client).responses.stream(model="poet", input="1+2?", tools=[ADD]) as stream:
        (call,) = stream.get_final_response().output

    assert call.type == "function_call"
    assert call.parsed_arguments == {"a": 1, "b": 2}


def test_a_call_that_is_cut_off_cannot_be_gone_on_from(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """It is shown as incomplete; the conversation goes on without it."""
    play(engine, Script(pieces=("好", CALL[:-20]), reason="length"), Script())
    first = made(client, tools=[ADD])
    made(client, previous_response_id=first["id"], input="?")

    assert [item["status"] for item in first["output"]] == ["completed", "incomplete"]
    assert first["output"][1]["type"] == "function_call"
    assert [message["role"] for message in engine.prompts[1]] == [*("user", "assistant", "user")]
    assert "tool_calls" not in engine.prompts[1][1]


def test_a_models_own_limit_is_not_shown_where_it_does_not_hold(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """It is meant for answers, so that it does not hold for a reply that may call."""
    engine.cards = [card("base"), card("poet", "base", sampling=SamplingDefaults(max_tokens=100))]
    limits = [made(client, **more)["max_output_tokens"] for more in ({}, {"tools": [ADD]})]

    assert limits == [100, None]
    assert limits == [request.sampling.max_tokens for request in engine.requests]


def test_tools_reach_the_prompt_and_the_reply(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """All of them, or those that are allowed; choices and their number hold the reply."""
    name = {"type": "function", "name": "now"}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [name]}
    choices = (None, "none", "required", name, allowed)
    answers = [
        made(client, tools=[ADD, NOW], tool_choice=choice, parallel_tool_calls=choice != "required")
        for choice in choices
    ]

    shown = [[tool["function"]["name"] for tool in each["tools"]] for each in engine.prompted]
    assert shown == [["add", "now"], [], ["add", "now"], ["add", "now"], ["now"]]
    assert engine.prompted[0]["tools"][0] == {
        "type": "function",
        "function": {name: ADD[name] for name in ("name", "description", "parameters")},  # type: ignore[literal-required]
    }
    held = [
        ([one.name for one in shape.functions], shape.must_call, shape.at_most_one)
        for shape in engine.shapes
    ]
    assert held == [
        (["add", "now"], False, False),
        (["add", "now"], True, True),
        (["now"], True, True),
        (["now"], True, False),
    ]
    assert [answer["tool_choice"] for answer in answers] == [
        *("auto", "none", "required"),
        name,
        allowed,
    ]
    for answer in answers:
        assert [tool["name"] for tool in answer["tools"]] == ["add", "now"]
        checked_response(answer)


CALL_ITEM = {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"}
ANSWER = {"type": "function_call_output", "call_id": "c", "output": "3"}
USER = {"role": "user", "content": "1+2?"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [USER, ANSWER]}, "input[1].call_id"),
        ({"input": [USER, CALL_ITEM | {"arguments": "3"}, ANSWER]}, "input[1].arguments"),
        (
            {"input": [USER, USER, CALL_ITEM, CALL_ITEM | {"call_id": "d", "arguments": "{"}]},
            "input[3].arguments",
        ),
        ({"input": [{"type": "reasoning", "summary": []}]}, "input"),
        ({"tools": [ADD, NOW, ADD]}, "tools[2].name"),
        ({"tool_choice": {"type": "function", "name": "sub"}}, "tool_choice.name"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": name} for name in ("add", "sub")],
                }
            },
            "tool_choice.tools[1].name",
        ),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused(
    client: TestClient[Any], fields: dict[str, Any], param: str
) -> None:
    """Under the names of this API, and the message begins with them."""
    error = post(client, **{"tools": [ADD, NOW]} | fields).json()["error"]

    assert error["param"] == param
    assert error["message"].startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [ADD]}, "tools"),
        ({"input": [USER, CALL_ITEM]}, "input[1]"),
        ({"input": [CALL_ITEM, ANSWER]}, "input[0]"),
        ({"reasoning": {"effort": "low"}}, "reasoning.effort"),
    ],
    ids=str,
)
def test_a_base_without_functions_and_thoughts_refuses_them(
    client: TestClient[Any], engine: ScriptedEngine, fields: dict[str, Any], param: str
) -> None:
    """Nothing of a conversation is left out of a prompt in silence."""
    engine.dialect = Dialect()

    assert refused(client, **fields) == (400, param, "unsupported_parameter")
