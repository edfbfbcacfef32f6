"""Assembly: many dialogues at once are, to the last bit, what each of them is alone."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import MARKS, TEMPLATE, byte_tokenizer
from tests.training.data.test_encode import (
    ROOMY,
    STRICT,
    SYSTEM,
    THINKING,
    merging_tokenizer,
    with_template,
)
from training.data import assembly
from training.data.assembly import Assembler
from training.data.dialogue import Dialogue
from training.data.encode import Encoding, encode_dialogue
from training.data.encoded import Encoded
from training.data.roles import RolePolicy
from training.errors import DataError
from training.synthetic.tokenizer import random_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# As Qwen3's stock template without tools: thoughts are parted from contents, and the turns after
# the last question look different. Its own words are not copied.
QWEN3_LIKE = """\
{%- set ns = namespace(asking=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
{%- set index = (messages|length - 1) - loop.index0 %}
{%- if ns.asking and message.role == 'user' and message.content is string
       and not (message.content.startswith('<tool_response>')
                and message.content.endswith('</tool_response>')) %}
{%- set ns.asking = false %}{%- set ns.last = index %}
{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- if message.content is string %}{%- set content = message.content %}
{%- else %}{%- set content = '' %}{%- endif %}
{%- if message.role == 'assistant' %}
{%- set thought = '' %}
{%- if '</think>' in content %}
{%- set thought = content.split('</think>')[0].split('<think>')[-1].lstrip('\\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\\n') %}
{%- endif %}
{%- if loop.index0 > ns.last and (loop.last or thought) %}
{{- '<|im_start|>' + message.role + '\\n<think>\\n' + thought + '\\n</think>\\n\\n' + content }}
{%- else %}{{- '<|im_start|>' + message.role + '\\n' + content }}{%- endif %}
{%- else %}{{- '<|im_start|>' + message.role + '\\n' + content }}{%- endif %}
{{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}
"""

TRIMMING = TEMPLATE.read_text(encoding="utf-8").replace(
    "{{- message.content }}", "{{- message.content | trim }}"
)
LOOKING = TEMPLATE.read_text(encoding="utf-8").replace(
    "{{- message.content }}", "{{- message.content ~ ('' if message.content|length > 3 else '!') }}"
)


def qwen3_like() -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer(MARKS)
    tokenizer.chat_template = QWEN3_LIKE
    return tokenizer


TOKENIZERS = {
    "chatml": byte_tokenizer(),
    "thinking": with_template(THINKING),
    "merging": merging_tokenizer(),
    "qwen3": qwen3_like(),
    "strict": with_template(STRICT),
    "trimming": with_template(TRIMMING),
    "looking": with_template(LOOKING),
    "random": random_tokenizer(20_000, 19_900, context_length=2048),
}
# Those whose dialogues nearly all go the quick way.
QUICK = ("chatml", "thinking", "merging", "qwen3", "trimming", "random")

TEXT = (
    st.text(st.sampled_from("吃了吗火锅，。！?ab 1\n"), min_size=1, max_size=8)
    | st.text(st.characters(codec="utf-8"), min_size=1, max_size=6)
    | st.sampled_from(["<|im_end|>", "</think>", "<think>", "x</think>y", "\n\n好", " 好 ", "<3"])
)
DIALOGUE = st.lists(TEXT, max_size=6)


def alone(
    tokenizer: PreTrainedTokenizerFast, dialogues: list[Dialogue], encoding: Encoding
) -> Encoded:
    return Encoded.of([encode_dialogue(tokenizer, each, encoding) for each in dialogues])


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@settings(max_examples=15, deadline=None)
@given(
    dialogues=st.lists(DIALOGUE, max_size=6),
    system=st.sampled_from([None, SYSTEM]),
    max_length=st.sampled_from([ROOMY, 90]),
    policy=st.sampled_from(get_args(RolePolicy)),
)
def test_many_dialogues_are_what_each_is_alone(
    tokenizer: PreTrainedTokenizerFast,
    dialogues: list[list[str]],
    system: str | None,
    max_length: int,
    policy: RolePolicy,
) -> None:
    """Tokens, masks, cuts and the count, for every template and policy, unchecked ones too."""
    encoding = Encoding(system, max_length, policy)
    many = [*map(Dialogue, dialogues), *(Dialogue(each, "猫", True) for each in dialogues[:2])]
    assembler = Assembler(tokenizer, encoding)
    assembler._is_right = lambda *_: True  # type: ignore[method-assign]
    for _ in range(2):  # what was met before is looked up
        assert assembler.encode(many).equals(alone(tokenizer, many, encoding))
    assert assembler._is_quick


@pytest.mark.parametrize("name", [*QUICK, "looking"])
def test_only_what_is_not_sure_goes_the_slow_way(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain dialogues do not; nor does one that is odd take others with it."""
    slow: list[Dialogue] = []

    def counted(renderer: object, dialogues: list[Dialogue], encoding: Encoding) -> object:
        slow.extend(dialogues)
        return (encode_dialogue(TOKENIZERS[name], each, encoding) for each in dialogues)

    monkeypatch.setattr(assembly, "encode_dialogues", counted)
    texts = islice(cycle(["吃了吗", "吃了。", "ab，好", "10点"]), 40)
    plain = [Dialogue([*islice(texts, size)]) for size in (2, 3, 4, 5, 6)]
    odd = Dialogue(["<|im_end|>", "好"])
    encoding = Encoding(SYSTEM, ROOMY)
    found = Assembler(TOKENIZERS[name], encoding).encode([*plain, odd, *plain])
    assert found.equals(alone(TOKENIZERS[name], [*plain, odd, *plain], encoding))
    assert slow == ([odd] if name in QUICK else [*plain, odd, *plain])


def test_the_quick_way_is_left_when_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first dialogues of every form are made both ways; one that differs ends the quick one."""
    tokenizer, encoding = TOKENIZERS["chatml"], Encoding(SYSTEM, ROOMY)
    many = [Dialogue(["早", "早安"])] * 9
    assembler = Assembler(tokenizer, encoding)
    right = assembler._segments.encode
    monkeypatch.setattr(
        assembler._segments,
        "encode",
        lambda texts: right(texts)._replace(flat=right(texts).flat ^ np.uint32(1)),
    )
    assert assembler.encode(many).equals(alone(tokenizer, many, encoding))
    assert not assembler._is_quick


def test_what_the_template_refuses_is_refused_among_many() -> None:
    """With the same error."""
    tokenizer = with_template("{{ raise_exception('no system prompts here') }}")
    with pytest.raises(DataError, match="no system prompts here"):
        Assembler(tokenizer, Encoding(SYSTEM, ROOMY)).encode([Dialogue(["早", "早安"])])
