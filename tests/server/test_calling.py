"""Calls of functions and thoughts over real engines: valid by construction, whatever else is asked.

The models are of random weights, so all that is right in what they say the grammar has seen to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
import openai
import pytest
from litestar.testing import TestClient
from msgspec import Meta, Struct

from adapters.home import Home
from server.app import create_app
from server.settings import ServerSettings
from tests.server.asking import streamed
from tests.tiny import MARKS, byte_tokenizer, tiny_base


class Weather(Struct, forbid_unknown_fields=True):
    city: Literal["北京", "上海"]
    celsius: bool
    days: Annotated[int, Meta(ge=1, le=9)]


class Nothing(Struct, forbid_unknown_fields=True):
    pass


PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "enum": ["北京", "上海"]},
        "celsius": {"type": "boolean"},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "celsius", "days"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "now"}},
]
TYPES: dict[str, type] = {"get_weather": Weather, "now": Nothing}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": {"enum": ["好", "坏"]}},
}
QUESTION: list[Any] = [{"role": "user", "content": "冷吗？"}]
PATH = "/v1/chat/completions"


BOTH = pytest.mark.parametrize("real", ["marked", "spelled"], indirect=True)


@pytest.fixture(scope="module", params=["marked"])
def real(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TestClient[Any]]:
    """A server whose base has a token for each of Qwen's marks, or else spells them."""
    home = Home(tmp_path_factory.mktemp("calling") / "home")
    marks = MARKS if request.param == "marked" else ()
    tiny_base(home.bases / "tiny", tokenizer=byte_tokenizer(marks), max_position_embeddings=4096)
    settings = ServerSettings(home=home, base="tiny", device="cpu", port=0)
    with TestClient(create_app(settings), base_url="http://127.0.0.1") as client:
        yield client


def tokens_of(client: TestClient[Any], text: str, **fields: Any) -> dict[int, None]:
    found = client.post("/tokenize", json={"prompt": text, **fields}).json()["tokens"]
    return dict.fromkeys(found)


def body(**fields: Any) -> dict[str, Any]:
    return {
        "model": "tiny",
        "messages": QUESTION,
        "tools": TOOLS,
        "max_tokens": 250,
        "temperature": 1.4,
        "seed": 7,
        **fields,
    }


def whole(client: TestClient[Any], **fields: Any) -> list[dict[str, Any]]:
    response = client.post(PATH, json=body(**fields))
    assert response.status_code == 200, response.text
    return list(response.json()["choices"])


def accumulated(client: TestClient[Any], **fields: Any) -> list[dict[str, Any]]:
    """The choices of a stream, put together as whole ones."""
    choices: dict[int, dict[str, Any]] = {}
    for frame in streamed(client, PATH, body(**fields)):
        for part in frame["choices"]:
            empty = {"message": {}, "logprobs": [], "calls": []}
            choice = choices.setdefault(part["index"], empty)
            delta = part["delta"]
            for name in ("content", "reasoning_content"):
                if delta.get(name) is not None:
                    choice["message"][name] = choice["message"].get(name, "") + delta[name]
            for call in delta.get("tool_calls", []):
                if "id" in call:
                    choice["calls"].append([call["function"]["name"], ""])
                choice["calls"][call["index"]][1] += call["function"]["arguments"]
            if part["logprobs"]:
                choice["logprobs"] += part["logprobs"]["content"]
            choice["finish_reason"] = part["finish_reason"]
    return [choices[index] for index in sorted(choices)]


def calls_of(choice: dict[str, Any]) -> list[list[str]]:
    calls = choice["message"].get("tool_calls", [])
    return [[call["function"]["name"], call["function"]["arguments"]] for call in calls]


def check_calls(choice: dict[str, Any]) -> list[list[str]]:
    """The calls, all of them of functions that there are, with arguments that they take."""
    calls = calls_of(choice)
    for name, arguments in calls:
        msgspec.json.decode(arguments, type=TYPES[name])
    return calls


def check_stream(client: TestClient[Any], choices: list[dict[str, Any]], **fields: Any) -> None:
    """That a stream says what the whole replies say."""
    for choice, told in zip(choices, accumulated(client, **fields), strict=True):
        message = choice["message"]
        for name in ("content", "reasoning_content"):
            assert told["message"].get(name) == message.get(name)
        assert told["calls"] == calls_of(choice)
        assert told["logprobs"] == (choice["logprobs"] or {}).get("content", [])
        assert told["finish_reason"] == choice["finish_reason"]


@BOTH
@pytest.mark.parametrize("tool_choice", ["required", NAMED], ids=["required", "named"])
def test_calls_are_valid_where_they_have_to_be_made(
    real: TestClient[Any], tool_choice: Any
) -> None:
    """Enums, booleans and bounds; a named function is called once, and no other."""
    fields = {"tool_choice": tool_choice, "n": 2}
    choices = whole(real, **fields)

    for choice in choices:
        calls = check_calls(choice)
        assert choice["finish_reason"] == "tool_calls"
        assert choice["message"]["content"] is None
        assert [name for name, _ in calls] == ["get_weather"] or tool_choice == "required"
    check_stream(real, choices, **fields)


def test_the_official_client_gets_a_valid_call(real: TestClient[Any]) -> None:
    """And may go on from it; what was said is found in the cache, the call included."""
    client = openai.OpenAI(
        base_url="http://127.0.0.1/v1",
        api_key="none",
        max_retries=0,
        http_client=real,  # type: ignore[arg-type]
    )
    first = client.chat.completions.create(
        model="tiny", messages=QUESTION, tools=TOOLS, tool_choice="required", max_tokens=250
    )
    message = first.choices[0].message
    assert message.tool_calls is not None
    results: list[Any] = [
        {"role": "tool", "tool_call_id": call.id, "content": "三点"} for call in message.tool_calls
    ]
    second = client.chat.completions.create(
        model="tiny", messages=[*QUESTION, message, *results], tools=TOOLS, max_tokens=4
    )

    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.prompt_tokens_details is not None
    assert second.usage.prompt_tokens_details.cached_tokens is not None
    spoken = first.usage.total_tokens - 1  # its last token was not computed any more
    assert second.usage.prompt_tokens_details.cached_tokens > spoken - 16


def test_several_calls_unless_one_is_asked_for(real: TestClient[Any]) -> None:
    """A model that likes to go on with a line end may, and may not."""
    (line_end,) = tokens_of(real, "\n")
    fields = {"tool_choice": "required", "logit_bias": {line_end: 100}, "tools": TOOLS[1:]}
    (several,) = whole(real, max_tokens=100, **fields)
    (one,) = whole(real, parallel_tool_calls=False, **fields)

    assert several["finish_reason"] == "length", "it likes nothing more"
    assert len(calls_of(several)) > 1
    assert (len(check_calls(one)), one["finish_reason"]) == (1, "tool_calls")
    check_stream(real, [several], max_tokens=100, **fields)


def test_a_model_that_may_call_is_held_to_the_functions_once_it_does(
    real: TestClient[Any],
) -> None:
    """Whether its mark is a token or spelled; before it, all text is free."""
    likes = dict.fromkeys(tokens_of(real, "<tool_call>", parse_special=True), 8)
    fields = {"n": 6, "logit_bias": likes, "logprobs": True}
    choices = whole(real, **fields)

    called = [choice for choice in choices if calls_of(choice)]
    assert called
    assert any(choice["message"]["content"] for choice in called), "text led up to a call"
    for choice in choices:
        check_calls(choice)
        content = choice["message"]["content"] or ""
        tokens = [bytes(entry["bytes"]) for entry in choice["logprobs"]["content"]]
        assert b"".join(tokens).decode(errors="replace").rstrip() == content.rstrip()
        assert choice["finish_reason"] == ("tool_calls" if calls_of(choice) else "stop")
    check_stream(real, choices, **fields)


def test_without_a_call_the_reply_is_text(real: TestClient[Any]) -> None:
    """Nothing of it is lost, and no token is there that it has not."""
    fields = {"n": 4, "max_tokens": 40, "logprobs": True}
    choices = whole(real, **fields)

    for choice in choices:
        tokens = [bytes(entry["bytes"]) for entry in choice["logprobs"]["content"]]
        assert b"".join(tokens).decode(errors="replace") == choice["message"]["content"]
        assert calls_of(choice) == []
    check_stream(real, choices, **fields)


@BOTH
def test_an_answer_of_a_format_or_calls(real: TestClient[Any]) -> None:
    """``response_format`` and tools together: the answer is held to the one, calls to the other."""
    for likes in ('"', "<tool_call>"):
        first, *_ = tokens_of(real, likes, parse_special=True)
        fields = {"response_format": FORMAT, "tools": TOOLS[1:], "logit_bias": {first: 50}}
        choices = whole(real, **fields)
        for choice in choices:
            content = choice["message"]["content"]
            assert content in (('"好"', '"坏"') if likes == '"' else (None,))
            assert bool(check_calls(choice)) == (content is None)
        check_stream(real, choices, **fields)


@pytest.mark.parametrize(
    "held", [{"tool_choice": NAMED}, {"tool_choice": "none", "response_format": FORMAT}]
)
def test_a_grammar_begins_behind_the_thought(real: TestClient[Any], held: dict[str, Any]) -> None:
    """The thought is free, and what follows it is not."""
    likes = dict.fromkeys(tokens_of(real, "</think>", parse_special=True), 12)
    fields = {"reasoning_effort": "low", "logit_bias": likes, "n": 4, **held}
    response = real.post(PATH, json=body(**fields)).json()

    ended = [choice for choice in response["choices"] if choice["finish_reason"] != "length"]
    assert ended
    for choice in ended:
        assert check_calls(choice) or choice["message"]["content"] in ('"好"', '"坏"')
    thoughts = [choice["message"].get("reasoning_content", "") for choice in ended]
    assert any(thoughts)
    assert not any("</think>" in thought for thought in thoughts)
    details = response["usage"]["completion_tokens_details"]
    assert 0 < details["reasoning_tokens"] < response["usage"]["completion_tokens"]
    check_stream(real, response["choices"], **fields)


def test_a_thought_may_be_all_there_is(real: TestClient[Any]) -> None:
    """The end of the tokens comes before its own; stop strings are not for it."""
    fields = {"reasoning_effort": "high", "max_tokens": 24, "tools": [], "stop": ["e", "\n"]}
    response = real.post(PATH, json=body(**fields)).json()
    (choice,) = response["choices"]

    assert choice["message"]["content"] is None
    assert len(choice["message"]["reasoning_content"]) > 4
    if choice["finish_reason"] == "length":
        assert response["usage"]["completion_tokens_details"] == {"reasoning_tokens": 24}
    check_stream(real, [choice], **fields)


def test_the_most_tokens_and_stop_strings_cut_calls_off(real: TestClient[Any]) -> None:
    """The reason says so; the least tokens do not make a call longer than it is."""
    fields = {"tool_choice": NAMED, "stop": ["celsius"]}
    (stopped,) = whole(real, **fields)
    (cut,) = whole(real, tool_choice=NAMED, max_tokens=60)
    (long,) = whole(real, tool_choice=NAMED, min_tokens=200)

    assert stopped["finish_reason"] == "stop"
    assert calls_of(stopped)[0][1] in ('{"city": "北京", "', '{"city": "上海", "')
    assert cut["finish_reason"] == "length"
    assert calls_of(cut)[0][1].startswith('{"city": "')
    assert (len(check_calls(long)), long["finish_reason"]) == (1, "tool_calls")
    check_stream(real, [stopped], **fields)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"type": "object", "properties": {"a": {"type": "wibble"}}}, "wibble"),
        ({"type": "string"}, "object"),
        ({"$ref": "#"}, "schema"),
    ],
    ids=["type", "no object", "itself"],
)
def test_a_functions_schema_that_cannot_be_used_is_refused(
    real: TestClient[Any], parameters: dict[str, Any], reason: str
) -> None:
    """Status 400 with its place; where functions are not to be called it does not matter."""
    tool = {"type": "function", "function": {"name": "bad", "parameters": parameters}}
    tools = [*TOOLS, tool]
    error = real.post(PATH, json=body(tools=tools)).json()["error"]

    assert (error["param"], error["code"]) == (
        "tools[2].function.parameters",
        "invalid_json_schema",
    )
    assert reason in error["message"]
    assert whole(real, tools=tools, tool_choice="none", max_tokens=2)


def test_schemas_nested_too_deeply_are_refused(real: TestClient[Any]) -> None:
    """Also where nothing is compiled, by the chat and by ``/tokenize``."""
    deep: dict[str, Any] = {"type": "object"}
    for _ in range(300):
        deep = {"type": "object", "properties": {"a": deep}}
    tools = [{"type": "function", "function": {"name": "deep", "parameters": deep}}]
    chat = real.post(PATH, json=body(tools=tools))
    tokens = real.post("/tokenize", json={"messages": QUESTION, "tools": tools})

    assert chat.json()["error"]["param"] == "tools[0].function.parameters"
    assert tokens.status_code in (200, 400)
    arguments = json.dumps(deep)
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}}
    messages = [*QUESTION, {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert real.post(PATH, json=body(messages=messages, tools=[])).status_code == 400


def test_a_message_goes_on_where_it_ends(real: TestClient[Any]) -> None:
    """As a text would that ends there: the reply is what follows, and the rest of the message."""
    said = {"role": "assistant", "content": "今天 "}
    messages = [*QUESTION, said]
    fields = {"messages": messages, "tools": [], "continue_final_message": True, "temperature": 0}
    (choice,) = whole(real, **fields, max_tokens=16)
    asked = {"messages": messages, "continue_final_message": True}
    tokens = real.post("/tokenize", json=asked).json()["tokens"]
    text = real.post("/detokenize", json={"tokens": tokens}).json()["prompt"]
    plain = {"model": "tiny", "prompt": tokens, "max_tokens": 16, "temperature": 0}
    (expected,) = real.post("/v1/completions", json=plain).json()["choices"]

    assert text.endswith("<|im_start|>assistant\n今天 ")
    assert choice["message"]["content"] == expected["text"]
    check_stream(real, [choice], **fields, max_tokens=16)
