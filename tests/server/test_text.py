"""``POST /v1/completions``: prompts in each of their forms, echo, logprobs, streams."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import openai
import pytest
from litestar.testing import TestClient

from server.engine.errors import PromptInvalid, PromptTooLong
from server.engine.types import TokenLogprobs
from tests.conftest import LiveServer
from tests.fakes import Script, ScriptedEngine


def ask(client: TestClient[Any], **fields: Any) -> Any:
    return client.post("/v1/completions", json={"model": "poet", "prompt": "ab", **fields})


def frames(client: TestClient[Any], **fields: Any) -> list[dict[str, Any]]:
    *lines, last = [line for line in ask(client, stream=True, **fields).text.splitlines() if line]
    assert last == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def test_a_completion_has_openais_shape_to_the_letter(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Every key is there, null where it has no value."""
    engine._scripts = [Script(pieces=("床前", "明月光"), cached_tokens=1)]

    completion = ask(client).json()

    assert re.fullmatch(r"cmpl-[0-9a-f]{32}", completion.pop("id"))
    assert completion.pop("created") > 0
    assert completion == {
        "object": "text_completion",
        "model": "poet",
        "system_fingerprint": "fp_digest-poet",
        "choices": [{"index": 0, "text": "床前明月光", "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": 2,
            "completion_tokens": 2,
            "total_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def test_a_priority_holds_for_all_replies(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """The lower goes first, as in vLLM; in the engine the higher does. Without one it is 0."""
    ask(client, n=2, priority=8)
    ask(client)

    assert [request.priority for request in engine.requests] == [-8, -8, 0]


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("ab", [b"ab"]),
        (["ab", "c"], [b"ab", b"c"]),
        ([97, 98], [b"ab"]),
        ([[97, 98], [99]], [b"ab", b"c"]),
        ("a<end>", [b"a<end>"]),
    ],
)
def test_a_prompt_has_four_forms(
    client: TestClient[Any], engine: ScriptedEngine, prompt: Any, tokens: list[bytes]
) -> None:
    """Texts or tokens, one or several; a control token's name in a text is text."""
    response = ask(client, prompt=prompt)

    assert response.status_code == 200
    assert [bytes(request.prompt) for request in engine.requests] == tokens
    assert len(response.json()["choices"]) == len(tokens)


def test_control_tokens_are_read_where_that_is_asked_for(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """``parse_special`` is for programs that write the whole prompt themselves."""
    ask(client, prompt="a<end>", parse_special=True)

    assert engine.requests[0].prompt == (97, 0)


def test_choices_of_several_prompts_are_in_order(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """All of the first, then all of the next; each prompt counts once, with the same seeds."""
    engine._scripts = [Script(pieces=(str(number),), cached_tokens=1) for number in range(4)]

    completion = ask(client, prompt=["ab", "cde"], n=2, seed=3).json()

    assert [choice["text"] for choice in completion["choices"]] == ["0", "1", "2", "3"]
    assert [choice["index"] for choice in completion["choices"]] == [0, 1, 2, 3]
    assert (completion["usage"]["prompt_tokens"], completion["usage"]["completion_tokens"]) == (
        5,
        4,
    )
    assert completion["usage"]["prompt_tokens_details"]["cached_tokens"] == 2
    seeds = [request.sampling.seed for request in engine.requests]
    assert seeds[:2] == seeds[2:]
    assert seeds[0] == 3 != seeds[1]


def test_the_prompt_can_be_echoed(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """Before each reply, whatever form it had; in a stream before the first text."""
    engine._scripts = [Script(pieces=("!",))]

    texts = [ask(client, prompt=prompt, echo=True).json() for prompt in ("ab", [97, 0, 98])]
    first, *_ = frames(client, prompt=["ab"], echo=True)

    assert [text["choices"][0]["text"] for text in texts] == ["ab!", "a<end>b!"]
    assert first["choices"][0]["text"] == "ab"


def test_logprobs_are_lists_with_offsets(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """A part of a character is named by its bytes and begins where the character does."""
    found = (
        TokenLogprobs(97, -0.5, ((98, -0.25),)),
        TokenLogprobs(0xC3, -1.0, ((0xC3, -1.0), (99, -math.inf))),
        TokenLogprobs(0xA9, -1.0),
        TokenLogprobs(0, -3.0),
        TokenLogprobs(98, -2.0),
    )
    engine._scripts = [Script(pieces=("a", "", "é", "", "b"), logprobs=found)]
    expected = {
        "tokens": ["a", "bytes:\\xc3", "bytes:\\xa9", "<end>", "b"],
        "token_logprobs": [-0.5, -1.0, -1.0, -3.0, -2.0],
        "top_logprobs": [
            {"b": -0.25, "a": -0.5},
            {"bytes:\\xc3": -1.0, "c": -9999.0},
            {"bytes:\\xa9": -1.0},
            {"<end>": -3.0},
            {"b": -2.0},
        ],
        "text_offset": [0, 1, 1, 2, 2],
    }

    whole = ask(client, logprobs=1).json()["choices"][0]["logprobs"]
    parts = [frame["choices"][0]["logprobs"] for frame in frames(client, logprobs=1)]

    assert whole == expected
    assert {
        name: [entry for part in parts if part for entry in part[name]] for name in expected
    } == expected
    assert engine.requests[0].sampling.logprobs == 1


def test_a_stream_has_frames_of_the_same_shape(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Text, then an end with a reason, then usage where it was asked for."""
    engine._scripts = [Script(pieces=("床前", "明月光"), reason="length")]

    sent = frames(client, stream_options={"include_usage": True})

    shown = [
        (choice["text"], choice["finish_reason"]) for frame in sent for choice in frame["choices"]
    ]
    assert shown == [("床前", None), ("明月光", None), ("", "length")]
    assert [frame["usage"] is None for frame in sent] == [True, True, True, False]
    assert sent[-1]["choices"] == []
    assert "usage" not in frames(client)[0]


def test_the_limit_is_openais_unless_the_model_has_one(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Sixteen tokens; what the request says holds in any case."""
    ask(client)
    ask(client, max_tokens=99)

    assert [request.sampling.max_tokens for request in engine.requests] == [16, 99]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [""]}, "prompt[0]"),
        ({"prompt": [[]]}, "prompt[0]"),
        ({"prompt": ["a", 5]}, "prompt"),
        ({"prompt": [5, [5]]}, "prompt"),
        ({"prompt": [-1]}, "prompt[0]"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 2}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": 3, "n": 2}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
    ],
    ids=str,
)
def test_a_mistake_is_refused_and_named(
    client: TestClient[Any], fields: dict[str, Any], param: str
) -> None:
    """With status 400 and OpenAI's error object."""
    response = ask(client, **fields)

    error = response.json()["error"]
    assert response.status_code == 400, response.text
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("refusal", "code"),
    [(PromptTooLong(9, None, 8), "context_length_exceeded"), (PromptInvalid("No."), None)],
)
def test_a_prompt_that_does_not_fit_is_named(
    client: TestClient[Any], engine: ScriptedEngine, refusal: Exception, code: str | None
) -> None:
    """The parameter is ``prompt`` here, not ``messages``."""
    engine._scripts = [Script(refusal=refusal)]

    error = ask(client).json()["error"]

    assert (error["param"], error["code"]) == ("prompt", code)


def test_the_official_client(live: LiveServer) -> None:
    """Whole and streamed."""
    with (
        live(Script(pieces=("床前", "明月光"))) as server,
        openai.OpenAI(base_url=server.url, api_key="none", max_retries=0) as client,
    ):
        whole = client.completions.create(model="poet", prompt="诗：", max_tokens=9)
        stream = client.completions.create(model="poet", prompt=["诗："], stream=True)
        streamed = "".join(chunk.choices[0].text for chunk in stream)

    assert whole.choices[0].text == streamed == "床前明月光"
    assert whole.choices[0].finish_reason == "stop"


def test_the_best_of_n_may_be_all_of_them(client: TestClient[Any]) -> None:
    """``best_of`` that asks for no more than ``n`` asks for nothing."""
    assert len(ask(client, n=2, best_of=2).json()["choices"]) == 2
