"""Reading the body of a chat request."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.wire.allowed import allowed_at
from server.wire.chat import ChatRequest, role_of, text_of
from server.wire.decode import UNSUPPORTED_IN_CHAT, decode_chat_request
from server.wire.errors import InvalidRequest

USER = {"role": "user", "content": "你好"}
DEEP = 100_000


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "base", "messages": [USER], **fields}).encode()


def refusal(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        decode_chat_request(raw)
    return caught.value


OUT_OF_BOUNDS: list[tuple[str, Any]] = [
    ("model", ""),
    ("model", "m" * 257),
    ("model", None),
    ("model", ["base"]),
    ("messages", []),
    ("messages", "你好"),
    ("messages", {}),
    ("messages", [USER] * 4097),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", 10**12),
    ("max_tokens", 1.5),
    ("max_tokens", "100"),
    ("max_completion_tokens", 0),
    ("temperature", -0.1),
    ("temperature", 2.1),
    ("temperature", 1e308),
    ("temperature", "0.5"),
    ("temperature", True),
    ("top_p", 0),
    ("top_p", 1.01),
    ("top_k", -2),
    ("top_k", 2**31),
    ("min_p", -0.1),
    ("min_p", 1.1),
    ("presence_penalty", -2.1),
    ("presence_penalty", "1"),
    ("frequency_penalty", 2.1),
    ("logit_bias", [1]),
    ("logit_bias", {"-1": 1}),
    ("logit_bias", {"你": 1}),
    ("logit_bias", {"1.5": 1}),
    ("logit_bias", {"5": 100.5}),
    ("logit_bias", {"5": None}),
    ("logit_bias", {str(token): 1 for token in range(1025)}),
    ("min_tokens", -1),
    ("min_tokens", 1.5),
    ("ignore_eos", 1),
    ("priority", -9),
    ("priority", 9),
    ("priority", 0.5),
    ("stop_token_ids", 5),
    ("stop_token_ids", [-1]),
    ("stop_token_ids", [2**31]),
    ("stop_token_ids", [5] * 65),
    ("repetition_penalty", 0),
    ("repetition_penalty", -1),
    ("repetition_penalty", 1e9),
    ("seed", 2**63),
    ("seed", 10**30),
    ("seed", 0.5),
    ("stop", ""),
    ("stop", "x" * 257),
    ("stop", ["a", "b", "c", "d", "e"]),
    ("stop", ["x"] * 100_000),
    ("stop", 5),
    ("n", 0),
    ("n", 129),
    ("logprobs", 5),
    ("top_logprobs", -1),
    ("top_logprobs", 21),
    ("n", -1),
    ("n", 10**6),
    ("n", 10**30),
    ("n", 1.5),
    ("n", True),
    ("stream", "yes"),
    ("stream", 1),
    ("stream_options", []),
    ("user", "u" * 513),
    ("user", 5),
    ("metadata", {"k" * 65: "v"}),
    ("metadata", {"k": "v" * 513}),
    ("metadata", {str(key): "v" for key in range(17)}),
    ("store", "no"),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_BOUNDS, ids=lambda value: repr(value)[:30])
def test_a_value_out_of_bounds_is_refused_and_the_field_named(name: str, value: Any) -> None:
    """Every number, list and string has its bounds, and the refusal begins with the field."""
    error = refusal(body(**{name: value}))

    assert error.param is not None
    assert error.param.split("[")[0] == name
    assert error.message.startswith(error.param)


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "robot", "content": "x"}, "messages[1].role"),
        ({"role": "tool", "content": "x"}, "messages[1].tool_call_id"),
        ({"role": "tool", "content": None, "tool_call_id": "a"}, "messages[1].content"),
        ({"role": 1, "content": "x"}, "messages[1].role"),
        ({"content": "x"}, "messages[1].role"),
        ({"role": "user"}, "messages[1].content"),
        ({"role": "user", "content": None}, "messages[1].content"),
        ({"role": "user", "content": 5}, "messages[1].content"),
        ({"role": "user", "content": []}, "messages[1].content"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[1].content[0].text"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///"}}]},
            "messages[1].content[0].type",
        ),
        ({"role": "assistant", "content": "x", "tool_calls": [{}]}, "messages[1].tool_calls[0].id"),
        ({"role": "assistant", "content": None, "tool_calls": []}, "messages[1].content"),
        ("你好", "messages[1]"),
    ],
)
def test_a_bad_message_is_located(message: Any, param: str) -> None:
    """The refusal says which message and which of its fields."""
    assert refusal(body(messages=[USER, message])).param == param


CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "tool_calls": [CALL]}
SAID = {"role": "assistant", "content": "好"}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": [TOOL] * 2}, "tools[1].function.name"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "<think>"}}]},
            "tools[0].function.name",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [TOOL], "tool_choice": "f"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.type"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
            "tool_choice.function.name",
        ),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"messages": [USER, {**CALLED, "tool_calls": [CALL] * 129}]}, "messages[1].tool_calls"),
        (
            {"messages": [USER, {**CALLED, "tool_calls": [{**CALL, "id": ""}]}]},
            "messages[1].tool_calls[0].id",
        ),
        (
            {"messages": [USER, CALLED, {"role": "tool", "content": "x", "tool_call_id": "b"}]},
            "messages[2].tool_call_id",
        ),
        (
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "a"}, CALLED]},
            "messages[0].tool_call_id",
        ),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content"),
        ({"reasoning_effort": "much"}, "reasoning_effort"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs"),
        ({"chat_template_kwargs": {"enable_thinking": 1}}, "chat_template_kwargs.enable_thinking"),
        ({"chat_template_kwargs": {"documents": []}}, "chat_template_kwargs.documents"),
        (
            {"reasoning_effort": "none", "chat_template_kwargs": {"enable_thinking": True}},
            "reasoning_effort",
        ),
        ({"add_generation_prompt": 1}, "add_generation_prompt"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"continue_final_message": True, "messages": [USER, CALLED]}, "continue_final_message"),
        (
            {
                "continue_final_message": True,
                "messages": [USER, SAID],
                "add_generation_prompt": True,
            },
            "continue_final_message",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_contradicts_itself_is_refused_and_the_field_named(
    fields: dict[str, Any], param: str
) -> None:
    """Tools, calls, results, thinking and ending; the refusal begins with the field."""
    error = refusal(body(**fields))

    assert error.param == param
    assert error.message.startswith(param)


def test_an_unknown_switch_of_the_template_is_unsupported() -> None:
    """By name, unlike other unknown fields: it would change the prompt."""
    error = refusal(body(chat_template_kwargs={"enable_thinking": True, "builtin_tools": []}))

    assert error.param == "chat_template_kwargs.builtin_tools"
    assert error.code == "unsupported_parameter"


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_required_field_is_asked_for(missing: str) -> None:
    """A missing field is named as one that is present and wrong would be."""
    fields = json.loads(body())
    del fields[missing]

    error = refusal(json.dumps(fields).encode())

    assert error.param == missing
    assert error.message == f"{missing}: is required."


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b'{"model":',
        body()[:-1],
        body() + b" trailing",
        b"\xef\xbb\xbf" + body(),
        body().decode().encode("utf-16"),
        b'{"model": "base", "messages": [{"role": "user", "content": "\xff"}]}',
        body()[:-1] + b', "unknown": "\xff\xfe"}',
        b'{"model": "base", "messages": [{"role": "user", "content": "\\ud800"}]}',
        body()[:-1] + b', "temperature": NaN}',
        body()[:-1] + b', "temperature": 1e999}',
        body()[:-1] + b', "seed": ' + b"9" * 5000 + b"}",
        b"[" * DEEP,
        b'{"a":' * DEEP,
        b'{"messages": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        body()[:-1] + b', "unknown": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        body()[:-1] + b', "tools": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        body()[:-1] + b', "metadata": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
    ],
    ids=lambda raw: repr(raw[-40:]),
)
def test_what_is_no_json_object_is_refused(raw: bytes) -> None:
    """Broken text, encodings, numbers and endless nesting are mistakes of the client, not bugs."""
    refusal(raw)


@pytest.mark.parametrize("name", sorted(UNSUPPORTED_IN_CHAT))
def test_a_parameter_that_would_change_the_reply_is_refused_by_name(name: str) -> None:
    """Nobody gets a reply that silently lacks what was asked for."""
    error = refusal(body(**{name: {"something": "asked for"}}))

    assert (error.param, error.code) == (name, "unsupported_parameter")


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in UNSUPPORTED_IN_CHAT for value in (None, *UNSUPPORTED_IN_CHAT[name])],
)
def test_an_unsupported_parameter_may_ask_for_nothing(name: str, value: Any) -> None:
    """Clients that always send ``tools: []`` or ``logprobs: false`` are served."""
    assert decode_chat_request(body(**{name: value})).ignored == ()


def test_unknown_fields_are_ignored_and_named() -> None:
    """The names come sorted, without those that no header could carry, and not without end."""
    unknown = {"zeta": 1, "alpha": {}, "bad\r\nname": 1, "名": 1}

    assert decode_chat_request(body(**unknown)).ignored == ("alpha", "zeta")
    many = {f"field_{index:03}": 1 for index in range(500)}
    assert len(decode_chat_request(body(**many)).ignored) == 16


def test_every_optional_field_may_be_null() -> None:
    """OpenAI's clients send null for what they leave open."""
    optional = (
        *("temperature", "top_p", "stop", "seed", "n", "stream", "stream_options", "metadata"),
        *("min_p", "presence_penalty", "frequency_penalty", "logit_bias", "min_tokens"),
        *("ignore_eos", "stop_token_ids", "tools", "tool_choice", "parallel_tool_calls"),
        *("reasoning_effort", "chat_template_kwargs", "add_generation_prompt"),
        *("continue_final_message", "response_format"),
    )

    request = decode_chat_request(body(**dict.fromkeys(optional))).request

    assert [getattr(request, name) for name in optional] == [None] * len(optional)


@pytest.mark.parametrize("most", ["max_tokens", "max_completion_tokens"])
def test_the_least_tokens_must_not_be_more_than_the_most(most: str) -> None:
    """Whichever name the limit has; without one the context's end is it."""
    assert refusal(body(min_tokens=6, **{most: 5})).param == "min_tokens"
    assert decode_chat_request(body(min_tokens=5, **{most: 5})).request.min_tokens == 5
    assert decode_chat_request(body(min_tokens=6)).request.min_tokens == 6


def test_usage_in_a_stream_needs_a_stream() -> None:
    """``stream_options`` means nothing without ``stream``, so it is refused."""
    options = {"include_usage": True}

    assert refusal(body(stream_options=options)).param == "stream_options"
    assert refusal(body(stream_options=options, stream=False)).param == "stream_options"
    assert decode_chat_request(body(stream_options=options, stream=True)).request.stream_options


def test_roles_and_parts_become_plain_messages() -> None:
    """``developer`` is a system message; text parts are joined by newlines."""
    parts = [{"type": "text", "text": "一"}, {"type": "text", "text": "二"}]
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    sent = [
        {"role": "developer", "content": "规则"},
        {"role": "system", "content": "规则"},
        {"role": "user", "content": parts, "name": "小明"},
        {"role": "assistant", "content": "好", "refusal": None, "tool_calls": [call]},
        {"role": "tool", "content": parts, "tool_call_id": "a"},
    ]

    messages = decode_chat_request(body(messages=sent)).request.messages

    roles = ["system", "system", "user", "assistant", "tool"]
    assert [role_of(message) for message in messages] == roles
    texts = [text_of(message.content or "") for message in messages]
    assert texts == ["规则", "规则", "一\n二", "好", "一\n二"]


def param_of(raw: bytes) -> str | None:
    """The parameter that a refusal names; ``"served"`` if it is none."""
    try:
        decode_chat_request(raw)
    except InvalidRequest as error:
        return error.param
    return "served"


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_decoder(raw: bytes) -> None:
    """Random bytes are refused, and never with another exception."""
    assert param_of(raw) in {None, "model", "messages"}


TEXT = st.text("a$`.[]你\u2028\x00", max_size=8)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
NAMED = ("temperature", "stop", "n", "seed", "tools", "logit_bias", "stop_token_ids", "tool_choice")
NAMES = st.sampled_from([*NAMED, "unknown"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, JSON))
def test_no_json_breaks_the_decoder(fields: dict[str, Any]) -> None:
    """Any value in any field is served or refused by that field's name."""
    param = param_of(body(**fields)) or ""

    assert re.split(r"[.\[]", param)[0] in {"served", *NAMED}


IMAGE = {"type": "image_url", "image_url": {"url": "x"}}


@pytest.mark.parametrize(
    ("fields", "message", "code"),
    [
        (
            {"messages": [{"role": "user", "content": [IMAGE]}]},
            "messages[0].content[0].type: 'image_url' is not supported; this server takes text.",
            "unsupported_parameter",
        ),
        (
            {"tools": [{"type": "custom", "custom": {"name": "a"}}]},
            "tools[0].type: 'custom' is not supported; this server takes function.",
            "unsupported_parameter",
        ),
        (
            {"response_format": {"type": "grammar"}},
            (
                "response_format.type: 'grammar' is not supported; this server takes text, "
                "json_object, json_schema."
            ),
            "unsupported_parameter",
        ),
        (
            {"reasoning_effort": "much"},
            (
                "reasoning_effort: 'much' is not supported; this server takes high, low, max, "
                "medium, minimal, none, xhigh."
            ),
            None,
        ),
    ],
    ids=["picture", "tool", "format", "effort"],
)
def test_of_a_few_choices_the_refusal_names_all(
    fields: dict[str, Any], message: str, code: str | None
) -> None:
    """So that whoever sent another kind of part or tool knows what there is."""
    error = refusal(body(**fields))

    assert (error.message, error.code) == (message, code)


@pytest.mark.parametrize("raw", [b"", b" \n"])
def test_an_empty_body_is_called_so(raw: bytes) -> None:
    """Rather than truncated JSON."""
    assert refusal(raw).message == "The body is empty; send a JSON object."


def test_what_has_no_few_choices_has_none() -> None:
    """Numbers, texts, and places that are not there."""
    paths = ("model", "temperature", "messages", "messages[0].content", "stop[0]", "nowhere.at[2]")

    assert {allowed_at(ChatRequest, path) for path in paths} == {()}


def test_a_name_ends_where_its_line_does() -> None:
    """No line end behind a name is overlooked, and the refusal says what a name may be."""
    for name in ("f\n", "a b", ""):
        tool = {"type": "function", "function": {"name": name}}
        error = refusal(body(tools=[tool]))
        assert error.param == "tools[0].function.name"
        assert error.message.endswith("has to be 1 to 64 of A-Z a-z 0-9 _ -.")
        schema = {"type": "json_schema", "json_schema": {"name": name}}
        assert refusal(body(response_format=schema)).param == "response_format.json_schema.name"
