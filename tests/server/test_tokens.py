"""``/tokenize`` and ``/detokenize``."""

from __future__ import annotations

from typing import Any

import pytest
from litestar.testing import TestClient

from tests.fakes import ScriptedEngine, card


def post(client: TestClient[Any], path: str, **fields: Any) -> Any:
    return client.post(path, json=fields)


def test_a_text_and_its_tokens(client: TestClient[Any]) -> None:
    """With their strings where those are asked for; the way back gives the text."""
    tokens = post(client, "/tokenize", model="poet", prompt="ab")
    named = post(client, "/tokenize", prompt="ab", return_token_strs=True).json()
    text = post(client, "/detokenize", tokens=[97, 98]).json()

    assert tokens.status_code == 200
    assert tokens.json() == {
        "count": 2,
        "max_model_len": 4096,
        "tokens": [97, 98],
        "token_strs": None,
    }
    assert named["token_strs"] == ["a", "b"]
    assert text == {"prompt": "ab"}


def test_control_tokens_have_names(client: TestClient[Any]) -> None:
    """They are read as tokens only where that is asked for."""
    plain = post(client, "/tokenize", prompt="<end>").json()["tokens"]
    special = post(client, "/tokenize", prompt="<end>", parse_special=True).json()["tokens"]

    assert (bytes(plain), special) == (b"<end>", [0])
    assert post(client, "/detokenize", tokens=[97, 0]).json() == {"prompt": "a<end>"}


def test_a_conversation_is_rendered_as_in_a_chat(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """With the model's own system prompt."""
    engine.cards = [card("base"), card("poet", "base", system_prompt="你是诗人。")]
    messages = [{"role": "user", "content": "ab"}]

    post(client, "/tokenize", model="poet", messages=messages)

    assert [message["role"] for message in engine.prompts[0]] == ["system", "user"]


def test_what_else_a_chats_prompt_shows(client: TestClient[Any], engine: ScriptedEngine) -> None:
    """Tools, thinking and another ending, as they are in a chat with the same fields."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    said = {"role": "assistant", "content": "a"}
    body: dict[str, Any] = {
        "model": "poet",
        "messages": [{"role": "user", "content": "ab"}, said],
        "tools": [tool],
        "chat_template_kwargs": {"enable_thinking": True},
        "continue_final_message": True,
    }
    for fields in (body, body | {"tool_choice": "none", "continue_final_message": False}):
        tokens = post(client, "/tokenize", **fields).json()["tokens"]
        assert client.post("/v1/chat/completions", json=fields).status_code == 200
        assert engine.requests[-1].prompt == tuple(tokens)

    continued = {"tools": [tool], "thinks": True, "ending": "continued"}
    replied = {"tools": [], "thinks": True, "ending": "reply"}
    assert engine.prompted == [
        {**shown, "must_fit": must_fit}  # only a chat has to; tokens of more can be counted
        for shown in (continued, replied)
        for must_fit in (False, True)
    ]


@pytest.mark.parametrize(
    ("path", "fields", "status", "param"),
    [
        ("/tokenize", {}, 400, "prompt"),
        (
            "/tokenize",
            {"prompt": "a", "messages": [{"role": "user", "content": "a"}]},
            400,
            "prompt",
        ),
        ("/tokenize", {"prompt": 5}, 400, "prompt"),
        ("/tokenize", {"prompt": "a", "model": "none"}, 404, "model"),
        ("/tokenize", {"prompt": "a", "chat_template": "{{ x }}"}, 400, "chat_template"),
        (
            "/tokenize",
            {"messages": [{"role": "user", "content": "a"}], "continue_final_message": True},
            400,
            "continue_final_message",
        ),
        ("/detokenize", {}, 400, "tokens"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens[0]"),
        ("/detokenize", {"tokens": [1], "model": "none"}, 404, "model"),
    ],
    ids=str,
)
def test_a_mistake_is_refused_and_named(
    client: TestClient[Any], path: str, fields: dict[str, Any], status: int, param: str
) -> None:
    """In OpenAI's shape, as everywhere."""
    response = post(client, path, **fields)

    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


def test_what_is_unknown_is_ignored_and_named(client: TestClient[Any]) -> None:
    """In the header, as in the other endpoints."""
    response = post(client, "/tokenize", prompt="a", promt="b")

    assert response.headers["x-ignored-parameters"] == "promt"
