r"""How a base writes thoughts and calls of functions: asked of its chat template, once.

Read are Qwen's forms: thoughts in ``<think>…</think>`` before the answer, a call as
``<tool_call>\n{"name": "…", "arguments": {…}}\n</tool_call>``, as Qwen2.5 and Qwen3 have them.
A template with other forms counts as one without.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from server.engine.types import Dialect, Thought

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

THINK, THINK_END = "<think>", "</think>"
CALL, CALL_END = "<tool_call>", "</tool_call>"
MARKS = (THINK, THINK_END, CALL, CALL_END)

_QUESTION = {"role": "user", "content": "?"}
_FUNCTION = {
    "name": "lccc_probe",
    "description": "lccc_purpose",
    "parameters": {"type": "object", "properties": {"lccc_key": {"type": "string"}}},
}
_CALLED = {"name": "lccc_probe", "arguments": {"lccc_key": "lccc_value"}}
_WRITTEN = (
    f'{CALL}\n{{"name": "lccc_probe", "arguments": {{"lccc_key": "lccc_value"}}}}\n{CALL_END}'
)


def dialect_of(tokenizer: PreTrainedTokenizerBase) -> Dialect:
    """What the tokenizer's chat template knows; nothing without one."""
    if not tokenizer.chat_template:
        return Dialect()
    off, on = (_rendered(tokenizer, [_QUESTION], thinks=thinks) for thinks in (False, True))
    mentions = THINK_END in tokenizer.get_chat_template()
    thought_on = _thought(on, is_expected=mentions)
    can_choose = off != on and thought_on != "none"
    return Dialect(
        has_calls=_has_calls(tokenizer),
        can_choose=can_choose,
        thought_on=thought_on,
        thought_off=_thought(off, is_expected=mentions and not can_choose),
    )


def _thought(prompt: str, *, is_expected: bool) -> Thought:
    """Whether a reply to ``prompt`` begins in a thought, or may begin one."""
    written = prompt.rstrip()
    if written.endswith(THINK):
        return "open"
    return "possible" if is_expected and not written.endswith(THINK_END) else "none"


def _has_calls(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether functions, calls of them and what they return are all shown, calls in our form."""
    tools = [{"type": "function", "function": _FUNCTION}]
    call = {"id": "lccc_id", "type": "function", "function": _CALLED}
    messages: list[Mapping[str, Any]] = [
        _QUESTION,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "lccc_id", "content": "lccc_result"},
    ]
    text = _rendered(tokenizer, messages, tools=tools)
    return all(part in text for part in ("lccc_purpose", _WRITTEN, "lccc_result"))


def _rendered(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Mapping[str, Any]] = (),
    thinks: bool = False,
) -> str:
    """A prompt as text; nothing where the template refuses it."""
    from jinja2 import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            list(messages),
            tools=list(tools) or None,
            add_generation_prompt=True,
            tokenize=False,
            enable_thinking=thinks,
        )
    except (TemplateError, TypeError):  # it reckons with other messages
        return ""
    return str(text)
