"""vLLM's ``structured_outputs``, and the names that it had before, at both endpoints."""

from __future__ import annotations

import re
from typing import Any

import pytest
from litestar.testing import TestClient

from server.engine.types import Form
from tests.fakes import ScriptedEngine
from tests.server.asking import ask, joined, streamed

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "天气？"}]}
TEXT = {"model": "tiny", "prompt": "天气"}
PATHS = {"/v1/chat/completions": CHAT, "/v1/completions": TEXT}
FLAG = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}


def texts(client: TestClient[Any], path: str, fields: dict[str, Any]) -> list[str]:
    """All choices of a reply, which have come to their end."""
    body = {**PATHS[path], "max_tokens": 60, "temperature": 1.5, "n": 4, "seed": 1, **fields}
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    choices = response.json()["choices"]
    assert {choice["finish_reason"] for choice in choices} == {"stop"}
    return [
        choice["text"] if "text" in choice else choice["message"]["content"] for choice in choices
    ]


def test_replies_are_of_the_form(real_client: TestClient[Any]) -> None:
    """Whatever a model of random weights would rather say, under both names."""
    celsius, miaow = r"[0-9]{2}℃/[a-c]", 'root ::= "喵" (" 喵"){2} end\nend ::= "～" | "！"'
    forms = {
        "choice": (["<|im_end|>", "小雨"], re.escape("<|im_end|>") + "|小雨"),
        "regex": (celsius, celsius),
        "grammar": (miaow, "喵 喵 喵[～！]"),
        "json": (FLAG, r'\{"ok":(true|false)\}'),
    }
    for name, (form, expected) in forms.items():
        said = [
            *texts(real_client, "/v1/chat/completions", {"structured_outputs": {name: form}}),
            *texts(real_client, "/v1/completions", {f"guided_{name}": form}),
        ]
        assert len(said) == 8
        assert all(re.fullmatch(expected, text) for text in said), said

    body = CHAT | {"structured_outputs": {"choice": ["<|im_end|>晴"]}}
    frames = streamed(real_client, "/v1/chat/completions", body)
    assert joined(frames, 0, lambda one: one["delta"].get("content"))[0] == "<|im_end|>晴"


def test_what_cannot_be_used_is_refused_by_its_own_name(real_client: TestClient[Any]) -> None:
    """With status 400, before anything is computed, at both endpoints."""
    bad: list[tuple[dict[str, Any], str, str]] = [
        ({"structured_outputs": {"regex": "(a"}}, "structured_outputs.regex", "invalid_grammar"),
        ({"guided_grammar": "miaow"}, "guided_grammar", "invalid_grammar"),
        ({"guided_json": {"type": "wibble"}}, "guided_json", "invalid_json_schema"),
    ]
    for fields, param, code in bad:
        for path, body in PATHS.items():
            response = real_client.post(path, json=body | fields)
            error = response.json()["error"]
            assert (response.status_code, error["param"], error["code"]) == (400, param, code)
            assert error["message"].startswith(f"{param}: The ")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"choice": [1]}}, "structured_outputs.choice[0]"),
        ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
        ({"structured_outputs": {"json": "{"}}, "structured_outputs.json"),
        ({"guided_json": "[1]"}, "guided_json"),
        ({"structured_outputs": {"wibble": 1}}, "structured_outputs.wibble"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        (
            {"structured_outputs": {"json": FLAG, "disable_additional_properties": True}},
            "structured_outputs.disable_additional_properties",
        ),
        (
            {"structured_outputs": {"choice": ["a"], "regex": "a"}},
            "structured_outputs.regex",
        ),
        ({"guided_choice": ["a"], "guided_regex": "a"}, "guided_regex"),
        (
            {"guided_choice": ["a"], "response_format": {"type": "json_object"}},
            "guided_choice",
        ),
        (
            {
                "guided_choice": ["a"],
                "tools": [{"type": "function", "function": {"name": "f"}}],
            },
            "guided_choice",
        ),
    ],
    ids=str,
)
def test_what_contradicts_itself_or_asks_for_nothing_is_refused(
    client: TestClient[Any], fields: dict[str, Any], param: str
) -> None:
    """By the name of the field."""
    response = ask(client, **fields)

    assert (response.status_code, response.json()["error"]["param"]) == (400, param), response.text


def test_what_is_null_or_changes_nothing_may_stand_beside_it(
    client: TestClient[Any], engine: ScriptedEngine
) -> None:
    """Clients send all fields of vLLM's class; functions that may not be called are no matter."""
    given = {
        "choice": ["晴"],
        "json": None,
        "json_object": None,
        "disable_any_whitespace": False,
        "whitespace_pattern": None,
        "structural_tag": None,
    }
    tools = [{"type": "function", "function": {"name": "f"}}]

    response = ask(client, structured_outputs=given, tools=tools, tool_choice="none")

    assert response.status_code == 200, response.text
    assert [shape.form for shape in engine.shapes] == [Form(choices=("晴",))]
