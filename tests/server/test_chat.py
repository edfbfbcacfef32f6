"""``POST /v1/chat/completions`` in process: shapes, defaults and what the engine is asked."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from litestar.testing import TestClient

from adapters.manifest import SamplingDefaults
from server.engine.types import SamplingParams
from tests.fakes import Script, ScriptedEngine, card
from tests.server.asking import USER, ask


def play(engine: ScriptedEngine, *scripts: Script) -> None:
    engine._scripts = list(scripts)


def test_a_completion_has_openais_shape_to_the_letter(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Every key is there, null where it has no value, and the model is the one asked for."""
    play(engine, Script(pieces=("床前", "", "明月光"), cached_tokens=4))
    before = int(time.time())

    response = ask(client)

    completion = response.json()
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}", completion.pop("id"))
    assert before <= completion.pop("created") <= time.time()
    assert completion == {
        "object": "chat.completion",
        "model": "poet",
        "system_fingerprint": "fp_digest-poet",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "床前明月光", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 6,
            "completion_tokens": 3,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"


def test_a_reply_cut_by_the_limit_says_length(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """``finish_reason`` is the engine's."""
    play(engine, Script(reason="length"))

    assert ask(client).json()["choices"][0]["finish_reason"] == "length"


def test_the_engine_gets_exactly_what_was_asked(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """All sampling parameters arrive; -1 for ``top_k`` means no limit, as at vLLM."""
    response = ask(
        client,
        temperature=0.5,
        top_p=0.9,
        top_k=-1,
        min_p=0.05,
        repetition_penalty=1.2,
        presence_penalty=0.5,
        frequency_penalty=-0.25,
        logit_bias={"17": 2.5, "42": -100},
        min_tokens=3,
        seed=-7,
        stop=["。", "！"],
        stop_token_ids=[7, 8],
        ignore_eos=True,
        priority=-3,
        max_tokens=50,
        max_completion_tokens=20,
        n=1,
        user="u",
        metadata={"k": "v"},
        store=False,
    )

    request = engine.requests[0]
    assert request.sampling == SamplingParams(
        temperature=0.5,
        top_p=0.9,
        top_k=0,
        min_p=0.05,
        repetition_penalty=1.2,
        presence_penalty=0.5,
        frequency_penalty=-0.25,
        logit_bias={17: 2.5, 42: -100.0},
        max_tokens=20,
        min_tokens=3,
        seed=-7,
        stop=("。", "！"),
        stop_token_ids=(7, 8),
        ignore_eos=True,
    )
    assert request.priority == 3, "the wire's lower is the engine's higher"
    assert request.model == "poet"
    assert request.prompt == tuple("你好".encode())
    assert request.id == response.json()["id"]
    assert "x-ignored-parameters" not in response.headers


def test_one_stop_string_is_a_list_of_one(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """``stop`` may be a string."""
    ask(client, stop="。")

    assert engine.requests[0].sampling.stop == ("。",)


def test_what_is_left_out_comes_from_the_model(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """An adapter's own sampling and system prompt are used, each unless the request brings one."""
    defaults = SamplingDefaults(
        max_tokens=100, temperature=0.3, top_p=0.8, top_k=20, repetition_penalty=1.1
    )
    engine.cards = [
        card("base"),
        card("poet", "base", system_prompt="你是诗人。", sampling=defaults),
    ]

    ask(client)
    ask(client, temperature=0, top_k=0, messages=[{"role": "developer", "content": "散文"}, USER])

    first, second = (request.sampling for request in engine.requests)
    assert first == SamplingParams(
        temperature=0.3, top_p=0.8, top_k=20, repetition_penalty=1.1, max_tokens=100
    )
    assert (second.temperature, second.top_k, second.top_p) == (0, 0, 0.8)
    assert engine.prompts == [
        [{"role": "system", "content": "你是诗人。"}, USER],
        [{"role": "system", "content": "散文"}, USER],
    ]


def test_without_any_default_sampling_is_neutral(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """The base has no defaults: the field's neutral values, and no system prompt."""
    ask(client, model="base")

    assert engine.requests[0].sampling == SamplingParams()
    assert engine.prompts == [[USER]]


@pytest.mark.parametrize(
    ("context_length", "asked", "expected"),
    [
        (4096, None, 100),  # the model's default
        (20, None, 14),  # the prompt has 6 tokens: only 14 have room
        (6, None, None),  # no room at all: the engine says so, and names no limit but its own
        (20, 50, 50),  # what the client asks for is never changed
    ],
)
def test_the_models_default_length_shrinks_to_fit(
    client: TestClient[Any],
    engine: ScriptedEngine,
    context_length: int,
    asked: int | None,
    expected: int | None,
) -> None:
    """A client that set no limit is not refused because the default would not fit."""
    sampling = SamplingDefaults(max_tokens=100)
    engine.cards = [card("poet", "base", context_length=context_length, sampling=sampling)]

    ask(client, max_tokens=asked)

    assert engine.requests[0].sampling.max_tokens == expected


def test_the_models_default_length_gives_way_to_min_tokens(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """What the client asked for is not refused because of a limit that it did not set."""
    sampling = SamplingDefaults(max_tokens=100)
    engine.cards = [card("poet", "base", sampling=sampling)]

    ask(client, min_tokens=150)

    assert engine.requests[0].sampling.max_tokens == 150


def test_the_adapter_that_answered_is_named_in_headers(client: TestClient[Any]) -> None:
    """Name and version of the adapter; the base has neither."""
    adapter, base = ask(client), ask(client, model="base")

    assert adapter.headers["x-adapter-id"] == "poet"
    assert adapter.headers["x-adapter-version"] == "digest-poet"
    assert "x-adapter-id" not in base.headers


def test_a_stream_names_the_adapter_too(client: TestClient[Any]) -> None:
    """The headers of a stream are those of a whole reply, and forbid caching and buffering."""
    headers = ask(client, stream=True, later=1).headers

    assert headers["x-adapter-id"] == "poet"
    assert headers["x-ignored-parameters"] == "later"
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-request-id"]


def test_ignored_parameters_are_named(client: TestClient[Any]) -> None:
    """The client can see what had no effect."""
    assert ask(client, verbosity="low", foo=1).headers["x-ignored-parameters"] == "foo, verbosity"


def test_a_refused_body_names_the_parameter(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Status 400, the error object, and the engine never hears of it."""
    response = ask(client, messages=[USER, {"role": "robot", "content": "x"}])

    assert response.status_code == 400
    assert response.json() == {
        "error": {
            "message": "messages[1].role: 'robot' is not supported; this server takes system, "
            "developer, user, assistant, tool.",
            "type": "invalid_request_error",
            "param": "messages[1].role",
            "code": None,
        }
    }
    assert engine.requests == engine.prompts == []


def test_a_stream_is_refused_with_a_status(client: TestClient[Any]) -> None:
    """What can be refused is refused before the stream begins, as JSON."""
    response = ask(client, stream=True, model="nobody")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


def test_a_reply_that_breaks_off_is_an_error(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Half a reply is never passed off as a whole one."""
    play(engine, Script(pieces=("a", "b"), fail_at=1))

    response = ask(client)

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "generation_failed"


def test_content_type_may_carry_a_charset(client: TestClient[Any]) -> None:
    """JSON is JSON, whatever is said behind the semicolon."""
    content = json.dumps({"model": "poet", "messages": [USER]}).encode()

    response = client.post(
        "/v1/chat/completions",
        content=content,
        headers={"content-type": "Application/JSON; charset=UTF-8"},
    )

    assert response.status_code == 200
