"""Modelfiles: Ollama's template has to make the prompts that the adapter was trained on."""

from __future__ import annotations

import re

import pytest

from tests.tiny import byte_tokenizer
from training.errors import ExportFailed
from training.export.ollama import turn_form

LLAMA3 = (
    "{{ '<|begin|>' }}{% for m in messages %}{{ '<|start|>' + m.role + '<|stop|>\\n\\n' }}"
    "{{ m.content | trim }}{{ '<|eot|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant<|stop|>\\n\\n' }}{% endif %}"
)
# Qwen3's, in what concerns plain turns: the reply opens with an empty thought.
QWEN3 = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{% endif %}"
)
# Qwen2.5's: a system prompt of its own where there is none.
QWEN25 = (
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\\nHi.<|im_end|>\\n' }}{% endif %}"
    + QWEN3
)
TALK = [
    {"role": "system", "content": "你是猫。"},
    {"role": "user", "content": "你好"},
    {"role": "assistant", "content": "喵"},
    {"role": "user", "content": "吃鱼吗"},
]


def go(template: str, messages: list[dict[str, str]]) -> str:
    """What Go's text/template makes of the part of its language that is used here."""
    found = re.fullmatch(
        r"(.*?)\{\{ range \.Messages \}\}(.*)\{\{ end \}\}\{\{ end \}\}(.*)", template, re.DOTALL
    )
    assert found
    start, turns, opening = found.groups()
    cases = re.findall(
        r'\{\{ (?:else )?if eq \.Role "(\w+)" \}\}(.*?)(?=\{\{ else|\Z)', turns, re.DOTALL
    )
    forms = dict(cases)
    said = (forms[m["role"]].replace("{{ .Content }}", m["content"]) for m in messages)
    return start + "".join(said) + opening


@pytest.mark.parametrize("template", [None, LLAMA3, QWEN3], ids=["ours", "llama3", "qwen3"])
@pytest.mark.parametrize("begin", [0, 1], ids=["system", "plain"])
def test_the_go_template_makes_the_bases_prompts(template: str | None, begin: int) -> None:
    """With and without a system prompt, in later turns as in the first."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template or tokenizer.chat_template
    expected = tokenizer.apply_chat_template(
        TALK[begin:], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )

    form = turn_form(tokenizer, has_system=False)

    assert go(form.go_template, TALK[begin:]) == expected
    assert form.rendered(TALK[begin:]) == expected


def test_a_system_prompt_of_the_templates_own_needs_one_of_the_adapters() -> None:
    """Ollama knows no default; with the adapter's own prompt there is always one."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = QWEN25
    expected = tokenizer.apply_chat_template(
        TALK, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )

    assert turn_form(tokenizer, has_system=True).rendered(TALK) == expected
    with pytest.raises(ExportFailed, match="chat template"):
        turn_form(tokenizer, has_system=False)


def test_a_template_that_is_more_than_turns_is_refused() -> None:
    """One that counts turns cannot be said so."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ loop.index }}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    )

    with pytest.raises(ExportFailed, match="cannot be written as a template"):
        turn_form(tokenizer, has_system=False)
