"""Reading the body of a request for a response."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.wire.chat import JsonObjectFormat
from server.wire.decode_responses import (
    MOVED,
    UNSUPPORTED_IN_RESPONSES,
    decode_responses_request,
)
from server.wire.errors import InvalidRequest
from server.wire.responses import (
    AllowedTools,
    FunctionChoice,
    GivenFunctionCallOutput,
    GivenInputText,
    GivenMessage,
    GivenReasoning,
    ItemReference,
    ResponsesRequest,
    SchemaFormat,
)

DEEP = 100_000
USER = {"role": "user", "content": "你好"}


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "base", "input": "你好", **fields}).encode()


def read(**fields: Any) -> ResponsesRequest:
    decoded = decode_responses_request(body(**fields))
    assert decoded.ignored == ()
    return decoded.request


def refusal(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode_responses_request(raw)
    return caught.value


OUT_OF_BOUNDS: list[tuple[str, Any]] = [
    ("model", ""),
    ("input", None),
    ("input", 5),
    ("input", []),
    ("input", {}),
    ("input", [USER] * 4097),
    ("instructions", ["规则"]),
    ("previous_response_id", ""),
    ("previous_response_id", "x" * 257),
    ("max_output_tokens", 0),
    ("max_output_tokens", 1e9),
    ("temperature", 2.1),
    ("top_p", 0),
    ("top_logprobs", 21),
    ("seed", "1"),
    ("stop", ""),
    ("min_p", 2),
    ("logit_bias", {"x": 1}),
    ("store", 1),
    ("stream", "yes"),
    ("stream_options", []),
    ("text", "json"),
    ("text", {"format": "text"}),
    ("text", {"verbosity": "loud"}),
    ("reasoning", {"effort": "hard"}),
    ("reasoning", "high"),
    ("tools", {}),
    ("tools", [5]),
    ("tools", [{"type": "function"}]),
    ("tools", [{"type": "function", "name": "a b"}]),
    ("tools", [{"type": "function", "name": "add"}] * 129),
    ("tool_choice", "maybe"),
    ("tool_choice", {"type": "function"}),
    ("tool_choice", {"type": "allowed_tools", "mode": "auto", "tools": []}),
    ("parallel_tool_calls", 0),
    ("include", "message.output_text.logprobs"),
    ("include", [5]),
    ("truncation", "middle"),
    ("metadata", {"k": 5}),
    ("user", "u" * 513),
    ("safety_identifier", 5),
    ("prompt_cache_key", "k" * 513),
    ("service_tier", 5),
    ("max_tool_calls", 0),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_BOUNDS, ids=lambda value: repr(value)[:30])
def test_a_value_out_of_bounds_is_refused_and_the_field_named(name: str, value: Any) -> None:
    """The refusal begins with the field, which may be one within."""
    error = refusal(body(**{name: value}))

    assert error.param is not None
    assert error.param.partition("[")[0].partition(".")[0] == name
    assert error.message.startswith(error.param)


CALL = {"type": "function_call", "call_id": "c", "name": "add", "arguments": "{}"}


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ("你好", "input[1]"),
        ({"content": "x"}, "input[1].type"),
        ({"role": "robot", "content": "x"}, "input[1].role"),
        ({"role": "tool", "content": "x"}, "input[1].role"),
        ({"role": "user"}, "input[1].content"),
        ({"role": "user", "content": []}, "input[1].content"),
        ({"role": "user", "content": [{"text": "x"}]}, "input[1].content[0].type"),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[1].content[0].text"),
        ({"role": "user", "content": [{"type": "text", "text": ""}]}, "input[1].content[0].type"),
        ({"role": "user", "content": [USER, 5]}, "input[1].content[0].type"),
        (CALL | {"call_id": None}, "input[1].call_id"),
        (CALL | {"name": "a b"}, "input[1].name"),
        (CALL | {"arguments": {}}, "input[1].arguments"),
        ({"type": "function_call_output", "call_id": "c"}, "input[1].output"),
        (
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file"}]},
            "input[1].output[0].type",
        ),
        ({"type": "reasoning", "content": "x"}, "input[1].content"),
        ({"type": "item_reference"}, "input[1].id"),
        ({"id": ""}, "input[1].id"),
    ],
    ids=str,
)
def test_a_bad_item_is_located(item: Any, param: str) -> None:
    """The refusal says which item and which of its fields."""
    assert refusal(body(input=[USER, item])).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type"),
        ({"input": [{"type": "compaction"}]}, "input[0].type"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
            "input[0].content[0].type",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
            "input[0].content[0].type",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "input[0].content[0].type",
        ),
        ({"tools": [{"type": "function", "name": "a"}, {"type": "mcp"}]}, "tools[1].type"),
        *(
            ({"tools": [{"type": kind}]}, "tools[0].type")
            for kind in ("web_search", "file_search", "code_interpreter", "custom", "x" * 100)
        ),
        ({"tools": [{"type": "function", "function": {"name": "add"}}]}, "tools[0].function"),
        ({"tool_choice": {"type": "web_search_preview"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function", "function": {}}}, "tool_choice.function"),
        ({"include": ["message.output_text.logprobs", "file_search_call.results"]}, "include[1]"),
        ({"include": ["reasoning.encrypted_content"]}, "include[0]"),
        ({"reasoning": {"effort": "low", "summary": "concise"}}, "reasoning.summary"),
        ({"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
        ({"reasoning": {"generate_summary": "auto"}}, "reasoning.generate_summary"),
    ],
    ids=str,
)
def test_what_the_server_does_not_have_is_refused_by_name(
    fields: dict[str, Any], param: str
) -> None:
    """Nobody gets a response that silently lacks what was asked for."""
    error = refusal(body(**fields))

    assert (error.param, error.code) == (param, "unsupported_parameter")
    assert error.message.startswith(f"{param}: ")
    assert len(error.message) < 250


@pytest.mark.parametrize("name", sorted(UNSUPPORTED_IN_RESPONSES))
def test_a_parameter_that_would_change_the_response_is_refused_by_name(name: str) -> None:
    """Background work, templates, conversations and the like."""
    error = refusal(body(**{name: {"something": "asked for"}}))

    assert (error.param, error.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, value)
        for name, nothing in UNSUPPORTED_IN_RESPONSES.items()
        for value in (None, *nothing)
    ]
    + [(name, None) for name in MOVED],
)
def test_an_unsupported_parameter_may_ask_for_nothing(name: str, value: Any) -> None:
    """Clients that always send ``background: false`` are served."""
    decode_responses_request(body(**{name: value}))


@pytest.mark.parametrize(("name", "here"), MOVED.items())
def test_a_name_of_the_chat_api_is_refused_with_the_one_it_has_here(name: str, here: str) -> None:
    """Also where what is needed is missing, which would be said otherwise."""
    raw = json.dumps({"model": "base", name: 5}).encode()

    assert refusal(raw).param == name
    assert here in refusal(raw).message


@pytest.mark.parametrize("missing", ["model", "input"])
def test_a_required_field_is_asked_for(missing: str) -> None:
    """A missing field is named as one that is present and wrong would be."""
    fields = json.loads(body())
    del fields[missing]

    assert refusal(json.dumps(fields).encode()).message == f"{missing}: is required."


def test_logprobs_and_options_of_streams_need_what_they_are_about() -> None:
    """``top_logprobs`` mean nothing where none are included, options nothing without a stream."""
    include = ["message.output_text.logprobs"]

    assert refusal(body(top_logprobs=3)).param == "top_logprobs"
    assert read(top_logprobs=3, include=include).top_logprobs == 3
    assert read(top_logprobs=0).top_logprobs == 0
    assert refusal(body(stream_options={})).param == "stream_options"
    assert read(stream=True, stream_options={"include_obfuscation": True}).stream
    assert refusal(body(max_output_tokens=5, min_tokens=6)).param == "min_tokens"


def test_types_may_be_left_out_of_messages_and_references() -> None:
    """As OpenAI's clients do it; null is as good as nothing."""
    given = [USER, USER | {"type": None}, USER | {"type": "message"}, {"id": "msg_1"}]

    *messages, reference = read(input=given).input
    assert messages == [GivenMessage(role="user", content="你好")] * 3
    assert reference == ItemReference(id="msg_1")


def test_every_kind_of_item_is_read() -> None:
    """With the fields that items have in answers, which say nothing new."""
    text = {"type": "input_text", "text": "3"}
    items = [
        {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        | {"content": [{"type": "output_text", "text": "好", "annotations": [], "logprobs": []}]},
        CALL | {"id": "fc_1", "status": "completed"},
        {"type": "function_call_output", "call_id": "c", "output": [text]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": None},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
    ]

    read_items = read(input=items).input
    assert [type(item).__name__ for item in read_items] == [
        *("GivenMessage", "GivenFunctionCallItem", "GivenFunctionCallOutput"),
        *("GivenReasoning", "GivenReasoning"),
    ]
    assert read_items[2] == GivenFunctionCallOutput(call_id="c", output=[GivenInputText(text="3")])
    assert read_items[3] == GivenReasoning()


def test_formats_and_choices_are_read() -> None:
    """In the flat forms of this API."""
    schema = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}
    formats = [read(text={"format": one}).text for one in ({"type": "json_object"}, schema)]
    function = {"type": "function", "name": "add"}
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [function]}

    assert [one.format for one in formats if one] == [
        JsonObjectFormat(),
        SchemaFormat(name="answer", schema={"type": "object"}),
    ]
    assert read(tool_choice="required").tool_choice == "required"
    assert read(tool_choice=function).tool_choice == FunctionChoice(name="add")
    assert read(tool_choice=allowed).tool_choice == AllowedTools(
        mode="required", tools=[FunctionChoice(name="add")]
    )


def test_unknown_fields_are_ignored_and_named() -> None:
    """At the top; within, they are only ignored."""
    decoded = decode_responses_request(body(zeta=1, alpha={}, text={"alpha": 1}))

    assert decoded.ignored == ("alpha", "zeta")


def test_every_optional_field_may_be_null() -> None:
    """OpenAI's clients send null for what they leave open."""
    optional = set(ResponsesRequest.__struct_fields__) - {"model", "input"}
    request = read(**dict.fromkeys(optional))

    assert {getattr(request, name) for name in optional} == {None}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        body() + b"x",
        b'{"input": "\xff"}',
        body()[:-1] + b', "input": [{"role": "user", "content": 1e999}]}',
        body()[:-1] + b', "input": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        body()[:-1] + b', "tools": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        body()[:-1] + b', "input": ' + b"[" * DEEP + b"}",
    ],
    ids=lambda raw: repr(raw[-40:]),
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    """Broken text, numbers and endless nesting are mistakes of the client, not bugs."""
    refusal(raw)


def param_of(raw: bytes) -> str | None:
    """The parameter that a refusal names; ``"served"`` if it is none."""
    try:
        decode_responses_request(raw)
    except InvalidRequest as error:
        return error.param
    return "served"


TEXT = st.sampled_from(["", "a", "type", "message", "function", "input_text", "role", "id"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
NAMED = ("input", "tools", "tool_choice", "include", "text", "reasoning", "truncation", "messages")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(NAMED), JSON))
def test_no_json_breaks_the_decoder(fields: dict[str, Any]) -> None:
    """Any value in any field is served or refused by that field's name."""
    param = param_of(body(**fields)) or ""

    assert param.partition("[")[0].partition(".")[0] in {"served", *NAMED}
