"""Encoding: every sequence is the server's prompt and the model's reply, and nothing else.

The oracle builds conversations by hand and renders prompts the way the server does.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from adapters.prompt import render_prompt, render_reply
from adapters.prompt_batch import BatchRenderer
from tests.tiny import CONTROL_TOKENS, TEMPLATE, byte_tokenizer
from training.data.dialogue import Dialogue
from training.data.encode import (
    Cut,
    EncodeReport,
    Encoding,
    Example,
    encode_dialogue,
    encode_dialogues,
)
from training.data.roles import RolePolicy
from training.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM = "你好"
ROOMY = 100_000

# As Qwen3's stock template: an empty think block opens the next reply, but no past one.
THINKING = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% if enable_thinking is defined and enable_thinking is false %}<think>

</think>

{% endif %}
{%- endif -%}
"""

# As Llama 2's: it insists on users and assistants in turn, users first.
STRICT = """\
{%- for message in messages if message.role != 'system' -%}
{%- if (message.role == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('roles must alternate user/assistant') }}
{%- endif -%}
{%- endfor -%}
""" + TEMPLATE.read_text(encoding="utf-8")

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6) | st.sampled_from(
    ["<|im_end|>", "<|im_start|>assistant\n", "\n\n", "吃了吗"]
)
DIALOGUE = st.lists(TEXT, min_size=2, max_size=6)


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, but two line feeds make one token: text then merges with the template before it."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*alphabet, "ĊĊ", *CONTROL_TOKENS])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ċ", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(CONTROL_TOKENS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
    )


def with_template(template: str) -> PreTrainedTokenizerFast:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


TOKENIZERS = {
    "chatml": byte_tokenizer(),
    "thinking": with_template(THINKING),
    "merging": merging_tokenizer(),
}
CHATML, THINKING_TOKENIZER = TOKENIZERS["chatml"], TOKENIZERS["thinking"]


def served_messages(utterances: list[str], system: str | None = SYSTEM) -> list[dict[str, str]]:
    """The conversation as a client would send it, the assistant speaking last."""
    roles = ["assistant", "user"]
    turns = [
        {"role": roles[(len(utterances) - 1 - index) % 2], "content": text}
        for index, text in enumerate(utterances)
    ]
    return [{"role": "system", "content": system}, *turns] if system else turns


def spans(example: Example) -> list[tuple[int, int]]:
    """The runs of tokens with loss, as (start, end)."""
    found, at = [], 0
    for is_target, run in groupby(example.is_target):
        length = len(list(run))
        if is_target:
            found.append((at, at + length))
        at += length
    return found


def encoded(
    utterances: list[str],
    tokenizer: PreTrainedTokenizerBase = CHATML,
    max_length: int = ROOMY,
    system: str | None = SYSTEM,
) -> list[Example]:
    return encode_dialogue(tokenizer, Dialogue(utterances), Encoding(system, max_length))


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(utterances=DIALOGUE, system=st.sampled_from([None, SYSTEM]))
def test_what_stands_before_a_reply_is_the_servers_prompt(
    tokenizer: PreTrainedTokenizerBase, utterances: list[str], system: str | None
) -> None:
    """Token for token, for each reply; the loss covers replies with end markers and only them."""
    replies = []
    for example in encoded(utterances, tokenizer, system=system):
        assert len(example.ids) == len(example.is_target)
        for start, end in spans(example):
            reply = tokenizer.decode(example.ids[start : end - 1])
            replies.append(reply)
            assert example.ids[start:end] == render_reply(tokenizer, reply)
            assert example.ids[end - 1] == tokenizer.eos_token_id
            said = len(utterances) - 2 * (len(utterances) // 2 - len(replies))
            messages = served_messages(utterances[:said], system)
            assert example.ids[:start] == render_prompt(tokenizer, messages[:-1])
        assert example.is_target[-1]
        assert (example.cut, example.dropped) == (Cut.NOTHING, 0)
    assert replies == utterances[len(utterances) % 2 + 1 :: 2]


@settings(max_examples=60, deadline=None)
@given(utterances=DIALOGUE)
def test_a_stable_template_makes_one_sequence_of_a_dialogue(utterances: list[str]) -> None:
    """ChatML: all replies of a dialogue are learnt in one pass over it."""
    (example,) = encoded(utterances)
    assert example.replies == len(utterances) // 2
    assert example.targets == sum(
        len(render_reply(CHATML, text)) for text in utterances[len(utterances) % 2 + 1 :: 2]
    )


@settings(max_examples=60, deadline=None)
@given(utterances=DIALOGUE)
def test_a_think_block_at_generation_time_makes_a_sequence_a_reply(utterances: list[str]) -> None:
    """The block opens the reply learnt, without loss, and none of the past ones."""
    assume(not any("think" in text for text in utterances))
    examples = encoded(utterances, THINKING_TOKENIZER)
    assert [example.replies for example in examples] == [1] * (len(utterances) // 2)
    for example in examples:
        ((start, end),) = spans(example)
        assert end == len(example.ids)
        before = THINKING_TOKENIZER.decode(example.ids[:start])
        assert before.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
        assert before.count("<think>") == 1


def test_text_that_merges_with_the_template_makes_sequences_of_their_own() -> None:
    """Stability is checked on the tokens of each dialogue, not assumed of its template."""
    tokenizer = TOKENIZERS["merging"]
    assert len(encoded(["一", "二", "三", "四"], tokenizer)) == 1
    assert len(encoded(["一", "\n二", "三", "四"], tokenizer)) == 2


def test_the_text_of_a_sequence_is_the_conversation() -> None:
    """Read by eye once: ChatML, an opening by the assistant without loss, two replies."""
    (example,) = encoded(["哟", "早", "早安", "忙吗", "不忙"])
    assert CHATML.decode(example.ids) == (
        "<|im_start|>system\n你好<|im_end|>\n"
        "<|im_start|>assistant\n哟<|im_end|>\n"
        "<|im_start|>user\n早<|im_end|>\n"
        "<|im_start|>assistant\n早安<|im_end|>\n"
        "<|im_start|>user\n忙吗<|im_end|>\n"
        "<|im_start|>assistant\n不忙<|im_end|>"
    )
    learnt = [CHATML.decode(example.ids[start:end]) for start, end in spans(example)]
    assert learnt == ["早安<|im_end|>", "不忙<|im_end|>"]


@settings(max_examples=60, deadline=None)
@given(utterances=DIALOGUE)
def test_text_never_becomes_a_control_token(utterances: list[str]) -> None:
    """As many turns begin and end as there are, whatever markers the text contains."""
    (example,) = encoded(utterances, system=None)
    start, end = CHATML.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
    assert example.ids.count(start) == example.ids.count(end) == len(utterances)


def test_a_template_that_wants_users_first_is_spared_the_assistants_opening() -> None:
    """The rest of the dialogue is learnt as if it had begun there."""
    tokenizer = with_template(STRICT)
    (odd,) = encoded(["哟", "早", "早安"], tokenizer)
    (even,) = encoded(["早", "早安"], tokenizer)
    assert (odd.ids, odd.is_target) == (even.ids, even.is_target)
    assert (odd.dropped, even.dropped) == (1, 0)


def test_a_template_that_refuses_the_dialogue_is_a_data_error() -> None:
    """With the template's own words."""
    tokenizer = with_template("{{ raise_exception('no system prompts here') }}")
    for utterances in (["早", "早安"], ["哟", "早", "早安"]):
        with pytest.raises(DataError, match="refuses the dialogue: no system prompts here"):
            encoded(utterances, tokenizer)


@pytest.mark.parametrize("utterances", [[], ["早"]])
def test_without_a_reply_there_is_nothing_to_learn(utterances: list[str]) -> None:
    """No sequence, rather than one without loss."""
    assert encoded(utterances) == []


# Longer than a template with its system prompt and one character of text, in the bytes of CHATML.
SHORTEST = 60


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(
    utterances=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\n"), min_size=1, max_size=40),
        min_size=2,
        max_size=5,
    ),
    max_length=st.integers(SHORTEST, 300),
)
def test_whatever_the_length_a_sequence_fits_and_keeps_the_end(
    tokenizer: PreTrainedTokenizerBase, utterances: list[str], max_length: int
) -> None:
    """Still the server's prompt, for the conversation as it was shortened, system prompt first."""
    examples = encoded(utterances, tokenizer, max_length)
    last = len(utterances) if len(examples) == 1 else len(utterances) % 2 + 2
    for example in examples:
        kept = utterances[example.dropped : last]
        last += 2
        start, end = spans(example)[-1]
        assert end == len(example.ids) <= max_length
        if example.cut in (Cut.PROMPT, Cut.REPLY):
            assert len(kept) == 2
            kept[0] = shortened_text(tokenizer, example, kept[0])
        assert example.ids[:start] == render_prompt(tokenizer, served_messages(kept)[:-1])
        whole = render_reply(tokenizer, kept[-1])
        if example.cut is Cut.REPLY:
            assert example.ids[start:] == whole[: max_length - start]
            assert len(kept[0]) == 1
            assert len(example.ids) == max_length
            assert tokenizer.eos_token_id not in example.ids[start:]
        else:
            assert example.ids[start:] == whole
        if example.cut is Cut.TURNS:
            assert example.dropped > 0
            longer = utterances[max(0, example.dropped - 2) : last - 2]
            full = render_prompt(tokenizer, served_messages(longer)[:-1])
            assert len(full) + len(whole) > max_length


def shortened_text(tokenizer: PreTrainedTokenizerBase, example: Example, text: str) -> str:
    """The end of the user's ``text`` that is in the sequence: the longest of those that are."""
    start, _ = spans(example)[-1]
    prompts = {
        size: render_prompt(tokenizer, served_messages([text[-size:], ""])[:-1])
        for size in range(1, len(text) + 1)
    }
    (size,) = [size for size, prompt in prompts.items() if prompt == example.ids[:start]]
    if example.cut is Cut.PROMPT and size < len(text):
        assert len(prompts[size + 1]) + len(example.ids) - start > len(example.ids)
    return text[-size:]


def test_every_reply_of_a_dialogue_that_is_cut_one_by_one_is_learnt() -> None:
    """Where each reply has a sequence of its own, only their contexts are shortened."""
    utterances = ["哟", "一", "二", "三", "四", "五", "六"]
    for max_length in range(SHORTEST + 1, 150):
        examples = encoded(utterances, THINKING_TOKENIZER, max_length)
        learnt = [example.ids[slice(*spans(example)[0])] for example in examples]
        assert learnt == [render_reply(THINKING_TOKENIZER, text) for text in ("二", "四", "六")]


def test_the_oldest_exchanges_go_first() -> None:
    """As many as must, the opening of the assistant before them, and never half of one."""
    utterances = ["哟", "一", "二", "三", "四", "五", "六"]
    (whole,) = encoded(utterances)
    seen = {}
    for max_length in range(42, len(whole.ids) + 1):
        (example,) = encoded(utterances, max_length=max_length)
        seen[example.dropped] = (example.cut, example.replies)
    assert seen == {
        5: (Cut.TURNS, 1),
        3: (Cut.TURNS, 2),
        1: (Cut.TURNS, 3),
        0: (Cut.NOTHING, 3),
    }


def test_the_longest_end_of_the_users_text_is_kept() -> None:
    """One more token of room is one more character; then the text is whole."""
    (whole,) = encoded(["abcdefgh", "ok"])
    texts = []
    for spare in range(8):
        (example,) = encoded(["abcdefgh", "ok"], max_length=len(whole.ids) - spare)
        texts.append(CHATML.decode(example.ids).split("user\n")[1].split("<|im_end|>")[0])
        assert example.cut is (Cut.PROMPT if spare else Cut.NOTHING)
        assert example.replies == 1
    assert texts == ["abcdefgh"[spare:] for spare in range(8)]


def test_no_room_for_a_reply_is_a_data_error() -> None:
    """It says how long the template and the system prompt are."""
    (one,) = encoded(["a", "b"])
    shortest = len(one.ids) - 1
    (cut,) = encoded(["a", "b"], max_length=shortest)
    assert (cut.cut, cut.targets) == (Cut.REPLY, 1)
    with pytest.raises(DataError, match=rf"length of 9 tokens leaves no .* take {shortest - 1}$"):
        encoded(["a", "b"], max_length=9)


def test_the_report_adds_up() -> None:
    """Over dialogues that fit and such that had to be cut in every way."""
    dialogues = [["a", "b"], ["哟", "a", "b", "c", "d"], ["x" * 99, "b"], ["a", "y" * 99], ["z"]]
    (second,) = encoded(dialogues[1])
    made = [encoded(dialogue, max_length=len(second.ids) - 1) for dialogue in dialogues]
    examples = [example for each in made for example in each]
    report = EncodeReport.over(made)
    assert report == EncodeReport(
        dialogues=5,
        examples=4,
        replies=5,
        tokens=sum(len(example.ids) for example in examples),
        target_tokens=sum(example.targets for example in examples),
        longest=max(len(example.ids) for example in examples),
        cut={"nothing": 1, "turns": 1, "prompt": 1, "reply": 1},
        utterances_dropped=1,
    )
    assert [example.cut.value for example in examples] == ["nothing", "turns", "prompt", "reply"]
    assert EncodeReport.over(made[:2]).plus(EncodeReport.over(made[2:])) == report
    assert EncodeReport.over([]) == EncodeReport()


@settings(max_examples=20, deadline=None)
@given(utterances=DIALOGUE)
def test_characters_are_those_of_the_replies_that_are_learnt(utterances: list[str]) -> None:
    """Whatever the template; of a reply that is cut, those that are left."""
    replies = utterances[len(utterances) % 2 + 1 :: 2]
    for tokenizer in TOKENIZERS.values():
        examples = encoded(utterances, tokenizer)
        assert sum(example.characters for example in examples) == sum(map(len, replies))
    (cut,) = encoded(["a", "早安早安"], max_length=len(encoded(["a", "b"])[0].ids) + 4)
    assert (cut.cut, cut.characters) == (Cut.REPLY, 2)


def test_every_policy_learns_what_it_says() -> None:
    """Each reply with the prompt that the server would render before it, and none twice."""
    utterances = ["一", "二", "三", "四", "五"]
    learnt = {
        policy: [
            CHATML.decode(example.ids[start : end - 1])
            for example in encode_dialogue(
                CHATML, Dialogue(utterances), Encoding(SYSTEM, ROOMY, policy)
            )
            for start, end in spans(example)
        ]
        for policy in get_args(RolePolicy)
    }
    assert learnt == {
        "last-assistant": ["三", "五"],
        "every-reply": ["三", "五", "二", "四"],
        "last-only": ["五"],
    }


def test_a_dialogues_own_system_prompt_stands_in_place_of_the_recipes() -> None:
    """As a client that sends one gets it."""
    (own,) = encode_dialogue(CHATML, Dialogue(["早", "早安"], "猫"), Encoding(SYSTEM, ROOMY))
    assert own.ids == encoded(["早", "早安"], system="猫")[0].ids


@pytest.mark.parametrize(
    "tokenizer", [*TOKENIZERS.values(), with_template(STRICT)], ids=[*TOKENIZERS, "strict"]
)
@settings(max_examples=20, deadline=None)
@given(
    dialogues=st.lists(DIALOGUE | st.just([]) | st.just(["早"]), max_size=5),
    system=st.sampled_from([None, SYSTEM]),
    max_length=st.sampled_from([ROOMY, 90]),
    policy=st.sampled_from(get_args(RolePolicy)),
)
def test_many_dialogues_together_are_encoded_as_each_alone(
    tokenizer: PreTrainedTokenizerBase,
    dialogues: list[list[str]],
    system: str | None,
    max_length: int,
    policy: RolePolicy,
) -> None:
    """Token for token, whatever is in them, for every template and policy."""
    encoding = Encoding(system, max_length, policy)
    given_roles = [Dialogue(utterances, has_roles=True) for utterances in dialogues[:1]]
    many = [*map(Dialogue, dialogues), *given_roles]
    alone = [encode_dialogue(tokenizer, dialogue, encoding) for dialogue in many]
    assert list(encode_dialogues(BatchRenderer(tokenizer), many, encoding)) == alone


def test_a_dialogue_that_is_refused_is_refused_among_many_too() -> None:
    """With the same error."""
    tokenizer = with_template("{{ raise_exception('no system prompts here') }}")
    with pytest.raises(DataError, match="no system prompts here"):
        list(
            encode_dialogues(
                BatchRenderer(tokenizer), [Dialogue(["早", "早安"])], Encoding(SYSTEM, ROOMY)
            )
        )
