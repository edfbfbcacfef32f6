"""Thinking, and going on where a message ends, over scripted replies."""

from __future__ import annotations

from typing import Any

import openai
import pytest
from litestar.testing import TestClient

from adapters.manifest import SamplingDefaults
from server.engine.types import Dialect
from tests.conftest import LiveServer
from tests.fakes import QWEN3, Script, ScriptedEngine, card
from tests.server.asking import USER, ask, frames
from tests.server.test_tools import CALL, TOOLS

THOUGHT = ("<thi", "nk>\n嗯", "，天气", "\n</think>", "\n\n晴", "。")


def test_thoughts_stand_beside_the_content(live: LiveServer) -> None:
    """Whole and streamed, with the tokens that they took."""
    with live(Script(pieces=THOUGHT)) as server:
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        whole = client.chat.completions.create(
            model="poet", messages=[USER], reasoning_effort="low"
        )
        options = {"include_usage": True}
        told = frames(server, reasoning_effort="low", stream_options=options)
        engine = server.engine

    message = whole.choices[0].message
    assert (message.content, message.model_dump()["reasoning_content"]) == ("晴。", "嗯，天气")
    assert whole.usage is not None
    assert whole.usage.completion_tokens_details is not None
    assert whole.usage.completion_tokens_details.reasoning_tokens == 3
    assert [choice["delta"] for frame in told for choice in frame["choices"]] == [
        {"role": "assistant", "content": None},
        {"reasoning_content": "嗯"},
        {"reasoning_content": "，天气"},
        {"content": "晴"},
        {"content": "。"},
        {},
    ]
    assert told[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}
    assert [one["thinks"] for one in engine.prompted] == [True, True]
    assert engine.requests[0].sampling.thought == "possible"


def test_a_thought_that_does_not_end_is_no_content(live: LiveServer) -> None:
    """The most tokens were too few for an answer."""
    with live(Script(pieces=THOUGHT[:3], reason="length")) as server:
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        whole = client.chat.completions.create(
            model="poet", messages=[USER], reasoning_effort="high"
        )

    assert whole.choices[0].message.content is None
    assert whole.choices[0].message.model_dump()["reasoning_content"] == "嗯，天气"
    assert whole.choices[0].finish_reason == "length"


def test_thoughts_lead_up_to_calls(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """As Qwen's models do it."""
    engine._scripts = [Script(pieces=(*THOUGHT[:4], "\n\n", *CALL))]
    (choice,) = ask(client, tools=TOOLS, reasoning_effort="medium").json()["choices"]

    assert choice["message"]["reasoning_content"] == "嗯，天气"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_weather"


OPEN = Dialect(thought_on="open", thought_off="open")
SWITCH = Dialect(can_choose=True, thought_on="open", thought_off="none")
BY_ITSELF = Dialect(thought_on="possible", thought_off="possible")
NEVER = Dialect()
ON: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": True}}
OFF: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}
EFFORT = "reasoning_effort"
SWITCHED = "chat_template_kwargs.enable_thinking"


@pytest.mark.parametrize(
    ("dialect", "fields", "thought"),
    [
        (SWITCH, {}, "none"),
        (SWITCH, {EFFORT: None, "chat_template_kwargs": {}}, "none"),
        (SWITCH, {EFFORT: "none"}, "none"),
        (SWITCH, OFF, "none"),
        (SWITCH, ON, "open"),
        (SWITCH, {EFFORT: "high", **ON}, "open"),
        (SWITCH, {EFFORT: "none", **OFF}, "none"),
        *((SWITCH, {EFFORT: one}, "open") for one in ("minimal", "low", "medium", "xhigh", "max")),
        (OPEN, {}, "open"),
        (OPEN, {EFFORT: "low"}, "open"),
        (BY_ITSELF, {}, "possible"),
        (BY_ITSELF, {EFFORT: "none"}, "possible"),
        (NEVER, {}, "none"),
        (NEVER, {EFFORT: "none"}, "none"),
        (NEVER, OFF, "none"),
    ],
    ids=str,
)
def test_how_a_reply_begins(
    client: TestClient[Any],
    engine: ScriptedEngine,
    dialect: Dialect,
    fields: dict[str, Any],
    thought: str,
) -> None:
    """Thinking is off unless it is asked for, where the base lets one choose."""
    engine.dialect = dialect
    assert ask(client, **fields).status_code == 200

    assert engine.requests[0].sampling.thought == thought


@pytest.mark.parametrize(
    ("dialect", "fields", "param"),
    [
        (OPEN, {EFFORT: "none"}, EFFORT),
        (OPEN, OFF, SWITCHED),
        (BY_ITSELF, {EFFORT: "low"}, EFFORT),
        (BY_ITSELF, ON, SWITCHED),
        (NEVER, {EFFORT: "max"}, EFFORT),
        (NEVER, ON, SWITCHED),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/tokenize"])
def test_what_the_base_cannot_do_is_refused(
    client: TestClient[Any],
    engine: ScriptedEngine,
    path: str,
    dialect: Dialect,
    fields: dict[str, Any],
    param: str,
) -> None:
    """Nobody gets thoughts, or none, against what was asked for."""
    engine.dialect = dialect
    response = client.post(path, json={"model": "poet", "messages": [USER], **fields})

    error = response.json()["error"]
    assert response.status_code == 400
    assert (error["param"], error["code"]) == (param, "unsupported_parameter")


@pytest.mark.parametrize(
    ("fields", "dialect", "most"),
    [
        ({}, SWITCH, 9),
        ({"tools": TOOLS, "tool_choice": "none"}, SWITCH, 9),
        ({}, BY_ITSELF, 9),
        ({"tools": TOOLS}, QWEN3, None),
        ({EFFORT: "low"}, QWEN3, None),
        ({}, OPEN, None),
        ({EFFORT: "low", "max_tokens": 5}, QWEN3, 5),
    ],
    ids=str,
)
def test_the_models_own_limit_is_for_plain_answers(
    client: TestClient[Any],
    engine: ScriptedEngine,
    fields: dict[str, Any],
    dialect: Dialect,
    most: int | None,
) -> None:
    """It would cut thoughts and calls off."""
    engine.dialect = dialect
    engine.cards = [card("poet", sampling=SamplingDefaults(max_tokens=9))]
    assert ask(client, **fields).status_code == 200

    assert engine.requests[0].sampling.max_tokens == most


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_may_be_given_back(
    client: TestClient[Any], engine: ScriptedEngine, name: str
) -> None:
    """By either name; the template decides what becomes of them."""
    said = {"role": "assistant", "content": "晴", name: "嗯"}
    assert ask(client, messages=[USER, said, USER]).status_code == 200
    assert ask(client, messages=[USER, {**said, "content": None}, USER]).status_code == 200

    assert engine.prompts[0][1] == {"role": "assistant", "content": "晴", "reasoning_content": "嗯"}
    assert engine.prompts[1][1] == {"role": "assistant", "content": "", "reasoning_content": "嗯"}


@pytest.mark.parametrize(
    ("fields", "ending", "goes_on"),
    [
        ({}, "reply", False),
        ({"add_generation_prompt": True, "continue_final_message": False}, "reply", False),
        ({"add_generation_prompt": False}, "bare", False),
        ({"continue_final_message": True}, "continued", True),
        ({"continue_final_message": True, "add_generation_prompt": False}, "continued", True),
    ],
    ids=str,
)
def test_where_a_prompt_ends(
    client: TestClient[Any],
    engine: ScriptedEngine,
    fields: dict[str, Any],
    ending: str,
    goes_on: bool,
) -> None:
    """A reply that goes on in a message begins with no thought, and keeps its first space."""
    said = {"role": "assistant", "content": "床前"}
    assert ask(client, messages=[USER, said], reasoning_effort="low", **fields).status_code == 200

    assert engine.prompted[0]["ending"] == ending
    assert engine.requests[0].continues_text == goes_on
    assert engine.requests[0].sampling.thought == ("possible" if ending == "reply" else "none")
