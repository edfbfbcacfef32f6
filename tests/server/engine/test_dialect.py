"""What a chat template knows: asked of ours, of templates in the manner of others, and of none."""

from __future__ import annotations

import pytest

from server.engine.dialect import dialect_of
from server.engine.types import Dialect
from tests.tiny import byte_tokenizer

TURNS = "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{%- endfor %}"
OPENING = "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
NO_THOUGHT = "{{ '<think>\n\n</think>\n\n' }}"
# In Qwen3's manner: without thinking the prompt closes an empty thought.
SWITCHED_OFF = f"{TURNS}{OPENING}{{% if enable_thinking is false %}}{NO_THOUGHT}{{% endif %}}"
# As of models that only think: the prompt opens the thought, or the model does.
ALWAYS_OPEN = TURNS + OPENING + "{{ '<think>\n' }}"
BY_ITSELF = "{%- set past = '</think>' %}" + TURNS + OPENING
NEVER = TURNS + OPENING + NO_THOUGHT
OTHER_SWITCH = TURNS + OPENING + "{{ '/no_think' if not enable_thinking }}"
# Functions are shown, but calls are written in another form.
OTHER_CALLS = (
    "{{ tools | tojson if tools }}{% for m in messages %}{{ m.content }}"
    "{% for call in m.tool_calls or [] %}{{ call.function | tojson }}{% endfor %}{% endfor %}"
)
STRICT = (
    "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}"
    "{{ raise_exception('no such role') }}{% endif %}{{ m.content }}{% endfor %}"
)
BROKEN = "{{ messages[0].content + 5 }}"


@pytest.mark.parametrize(
    ("template", "dialect"),
    [
        (SWITCHED_OFF, Dialect(can_choose=True, thought_on="possible")),
        (ALWAYS_OPEN, Dialect(thought_on="open", thought_off="open")),
        (BY_ITSELF, Dialect(thought_on="possible", thought_off="possible")),
        (NEVER, Dialect()),
        (OTHER_SWITCH, Dialect()),
        (OTHER_CALLS, Dialect()),
        (STRICT, Dialect()),
        (BROKEN, Dialect()),
        (None, Dialect()),
    ],
    ids=["off", "always", "itself", "never", "switch", "other calls", "strict", "broken", "none"],
)
def test_what_a_template_knows(template: str | None, dialect: Dialect) -> None:
    """Whether thinking can be chosen, how a reply then begins, and no calls in another form."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template

    assert dialect_of(tokenizer) == dialect


def test_ours_knows_calls_and_thoughts() -> None:
    """It opens the thought in the prompt."""
    assert dialect_of(byte_tokenizer()) == Dialect(
        has_calls=True, can_choose=True, thought_on="open", thought_off="none"
    )


@pytest.mark.parametrize(
    "without", ["tool | tojson", "call.function.arguments | tojson", "message.content + '\\n</tool"]
)
def test_a_template_that_shows_only_a_part_counts_as_one_without(without: str) -> None:
    """What it leaves out, a client would miss without being told."""
    tokenizer = byte_tokenizer()
    assert without in tokenizer.chat_template
    replacement = "'\\n</tool" if without.endswith("</tool") else "''"
    tokenizer.chat_template = tokenizer.chat_template.replace(without, replacement)

    assert not dialect_of(tokenizer).has_calls
