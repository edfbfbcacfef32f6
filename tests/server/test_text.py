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
from server.engine.types import Piece, Scored, TokenLogprobs
from server.replies.logprobs import prompt_logprobs
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


SCORED = Scored(97, (TokenLogprobs(0xC3, -1.0, ((98, -0.5),)), TokenLogprobs(0xA9, -math.inf)))


@pytest.mark.parametrize("prompt", ["aé", [97, 0xC3, 0xA9]], ids=["text", "tokens"])
def test_a_prompt_is_echoed_with_its_logprobs(
    client: TestClient[Any], engine: ScriptedEngine, prompt: Any
) -> None:
    """Null for the first token, then each by those before it, then the reply's; streamed too."""
    engine._scripts = [Script(pieces=("!",), logprobs=(TokenLogprobs(33, -2.0),), scored=SCORED)]
    expected = {
        "tokens": ["a", "bytes:\\xc3", "bytes:\\xa9", "!"],
        "token_logprobs": [None, -1.0, -9999.0, -2.0],
        "top_logprobs": [
            None,
            {"b": -0.5, "bytes:\\xc3": -1.0},
            {"bytes:\\xa9": -9999.0},
            {"!": -2.0},
        ],
        "text_offset": [0, 1, 1, 2],
    }

    asked = {"prompt": prompt, "echo": True, "logprobs": 1}
    (whole,) = ask(client, **asked).json()["choices"]
    first, second, _ = (frame["choices"][0] for frame in frames(client, **asked))

    assert (whole["text"], whole["logprobs"]) == ("aé!", expected)
    assert (first["text"], second["text"]) == ("aé", "!")
    both = {name: first["logprobs"][name] + second["logprobs"][name] for name in expected}
    assert both == expected
    assert {request.sampling.prompt_logprobs for request in engine.requests} == {1}


def test_a_prompt_is_scored_for_echoes_alone(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """And then for every choice anew, which counts towards what waits."""
    for fields in ({"logprobs": 1}, {"echo": True}, {"echo": False, "logprobs": 0}):
        ask(client, **fields)
    ask(client, echo=True, logprobs=0, n=2)

    asked = [request.sampling.prompt_logprobs for request in engine.requests]
    assert asked == [None, None, None, 0, 0]
    assert [request.is_repeat for request in engine.requests[-2:]] == [False, False]


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_given_text_is_scored_without_a_reply(
    client: TestClient[Any], engine: ScriptedEngine, is_streamed: bool
) -> None:
    """``max_tokens`` 0 with ``echo`` and ``logprobs``: what harnesses for evaluation ask."""
    engine._scripts = [Script(pieces=(), reason="length", scored=SCORED)]
    asked = {"prompt": "aé", "echo": True, "logprobs": 0, "max_tokens": 0}
    if is_streamed:
        first, last = (frame["choices"][0] for frame in frames(client, **asked))
        assert (first["finish_reason"], last["text"], last["logprobs"]) == (None, "", None)
    else:
        (first,) = (last,) = ask(client, **asked).json()["choices"]

    assert first["text"] == "aé"
    assert first["logprobs"]["token_logprobs"] == [None, -1.0, -9999.0]
    assert last["finish_reason"] == "length"
    assert engine.requests[0].sampling.max_tokens == 0


def test_a_space_that_is_not_in_the_text_is_no_offset() -> None:
    """Some tokenizers begin every text with one, behind the mark of its beginning."""
    pieces = [Piece(b"<s>", b""), Piece(b" Hi", b" Hi"), Piece(b" you", b" you")]
    scored = Scored(0, (TokenLogprobs(1, -1.0), TokenLogprobs(2, -1.0)))

    shown = prompt_logprobs(scored, pieces.__getitem__, "<s>Hi you")

    assert shown.tokens == ["<s>", " Hi", " you"]
    assert shown.text_offset == [0, 3, 5]


def test_a_real_text_is_as_likely_given_as_written(real_client: TestClient[Any]) -> None:
    """What a reply's tokens had as logprobs, they have in the prompt that quotes them."""
    asked = {"model": "tiny", "prompt": "今天", "max_tokens": 12, "logprobs": 1, "seed": 5}
    asked["logit_bias"] = {str(token): -100 for token in range(94, 259)}  # printable
    (written,) = real_client.post("/v1/completions", json=asked).json()["choices"]
    given = {"prompt": "今天" + written["text"], "echo": True, "max_tokens": 0}
    (scored,) = real_client.post("/v1/completions", json=asked | given).json()["choices"]

    assert len(written["logprobs"]["tokens"]) == 12
    assert scored["text"] == given["prompt"]
    assert scored["logprobs"]["tokens"][-12:] == written["logprobs"]["tokens"]
    assert scored["logprobs"]["token_logprobs"][0] is None
    assert scored["logprobs"]["token_logprobs"][-12:] == pytest.approx(
        written["logprobs"]["token_logprobs"], abs=1e-4
    )
    assert scored["logprobs"]["text_offset"][-12:] == [
        offset + 2 for offset in written["logprobs"]["text_offset"]
    ]


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
        ({"max_tokens": -1}, "max_tokens"),
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
