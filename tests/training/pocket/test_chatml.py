"""The project's own chat template: plain turns as ever, functions and thoughts in Qwen's format."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.prompt import render_prompt
from tests.tiny import byte_tokenizer

# All that the template was before it knew functions; adapters have been trained on this.
PLAIN = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""
TOKENIZER, PLAIN_TOKENIZER = byte_tokenizer(), byte_tokenizer()
PLAIN_TOKENIZER.chat_template = PLAIN

TEXT = st.text(st.sampled_from("好a\n <|im_end|>{{ }}'\""), max_size=8)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXT}
)

TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "天气", "parameters": {}}},
]
SHOWN = """\
# 函数

需要时可以调用下面的函数，每行说明一个：
<tools>
{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}
{"type": "function", "function": {"name": "天气", "parameters": {}}}
</tools>

调用时写出函数的名字和参数，参数是一个 JSON 对象：
<tool_call>
{"name": 名字, "arguments": 参数}
</tool_call>"""
ASKED = {"role": "user", "content": "几点？"}


def turn(role: str, text: str) -> str:
    return f"<|im_start|>{role}\n{text}<|im_end|>\n"


def rendered(messages: list[dict[str, Any]], **options: Any) -> str:
    return TOKENIZER.decode(render_prompt(TOKENIZER, messages, **options))


@settings(max_examples=100, deadline=None)
@given(messages=st.lists(MESSAGE, min_size=1, max_size=6))
def test_plain_conversations_read_as_they_always_did(messages: list[dict[str, str]]) -> None:
    """Token for token: what adapters learnt to continue is what they are given."""
    assert render_prompt(TOKENIZER, messages) == render_prompt(PLAIN_TOKENIZER, messages)


@pytest.mark.parametrize("system", [None, "简短"])
def test_functions_are_shown_in_the_system_turn(system: str | None) -> None:
    """Behind what the system prompt says, or alone."""
    first = [] if system is None else [{"role": "system", "content": system}]

    text = rendered([*first, ASKED], tools=TOOLS)

    before = "" if system is None else f"{system}\n\n"
    assert text == (
        turn("system", before + SHOWN) + turn("user", "几点？") + "<|im_start|>assistant\n"
    )


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": "x", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_calls_and_results_are_written_as_qwen_writes_them() -> None:
    """Several calls in one turn, their results in one turn of the user's."""
    messages = [
        ASKED,
        {
            "role": "assistant",
            "content": "我看看",
            "tool_calls": [call("now", {}), call("天气", {"城": ["北京", 1.5, None]})],
        },
        {"role": "tool", "tool_call_id": "x", "content": "三点"},
        {"role": "tool", "tool_call_id": "x", "content": "晴"},
        {"role": "assistant", "content": "", "tool_calls": [call("now", {"a": True})]},
        {"role": "tool", "tool_call_id": "x", "content": "四点"},
        {"role": "assistant", "content": "四点了"},
    ]

    assert rendered(messages, ending="bare") == (
        turn("user", "几点？")
        + turn(
            "assistant",
            '我看看\n<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n'
            '<tool_call>\n{"name": "天气", "arguments": {"城": ["北京", 1.5, null]}}\n</tool_call>',
        )
        + turn(
            "user",
            "<tool_response>\n三点\n</tool_response>\n<tool_response>\n晴\n</tool_response>",
        )
        + turn("assistant", '<tool_call>\n{"name": "now", "arguments": {"a": true}}\n</tool_call>')
        + turn("user", "<tool_response>\n四点\n</tool_response>")
        + turn("assistant", "四点了")
    )


def test_thinking_opens_a_thought_and_not_thinking_nothing() -> None:
    """The model goes on from there."""
    assert rendered([ASKED], thinks=True).endswith("<|im_start|>assistant\n<think>\n")
    assert rendered([ASKED], thinks=False).endswith("<|im_start|>assistant\n")


def test_thoughts_about_the_last_question_stay() -> None:
    """Up to its answer, calls of functions included; those about earlier ones have gone."""
    messages = [
        ASKED,
        {"role": "assistant", "content": "三点", "reasoning_content": "旧"},
        ASKED,
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "新",
            "tool_calls": [call("n", {})],
        },
        {"role": "tool", "tool_call_id": "x", "content": "四点"},
    ]

    text = rendered(messages, thinks=True)

    assert "旧" not in text
    assert "<|im_start|>assistant\n<think>\n新\n</think>\n\n<tool_call>\n" in text
