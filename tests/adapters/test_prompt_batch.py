"""Many conversations at once: token for token what each gives alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import TemplateError
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from adapters.prompt import render_prompt, render_reply
from adapters.prompt_batch import CHECKED, BatchRenderer
from tests.tiny import CONTROL_TOKENS, TEMPLATE, byte_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]

# What is likely to go wrong: control tokens, their halves, transformers' own marks, line feeds that
# merge with the template's, composed characters.
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=6) | st.sampled_from(
    ["<|im_end|>", "<|im_", "\U000f0000x\U000f0001", "\n\n", "e\u0301", "吃了吗", " 在 "]
)
CONVERSATION = st.lists(TEXT, min_size=1, max_size=5).map(
    lambda texts: [
        {"role": ("user", "assistant")[index % 2], "content": text}
        for index, text in enumerate(texts)
    ]
)


def spelling_tokenizer(*, metaspace: bool) -> PreTrainedTokenizerFast:
    """Characters with NFC, and Metaspace as SentencePiece's models have it, or whole words."""
    letters = [*"abcdefghijklmnopqrstuvwxyz▁\n吃了吗在", "<unk>", "é"]
    vocabulary = {token: index for index, token in enumerate([*letters, *CONTROL_TOKENS])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Metaspace(prepend_scheme="first")
        if metaspace
        else pre_tokenizers.WhitespaceSplit()
    )
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(CONTROL_TOKENS)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        chat_template=TEMPLATE.read_text(encoding="utf-8"),
    )


def truncating_tokenizer() -> PreTrainedTokenizerFast:
    """One whose file says that long texts are cut."""
    tokenizer = byte_tokenizer()
    tokenizer.backend_tokenizer.enable_truncation(4)
    return tokenizer


TOKENIZERS = {
    "bytes": byte_tokenizer(),
    "words": spelling_tokenizer(metaspace=False),
    "Metaspace": spelling_tokenizer(metaspace=True),
    "truncating": truncating_tokenizer(),
}


def one_by_one(
    tokenizer: PreTrainedTokenizerBase, conversations: list[Messages], replies: list[str]
) -> tuple[list[list[int]], list[list[int]]]:
    return (
        [render_prompt(tokenizer, messages) for messages in conversations],
        [render_reply(tokenizer, reply) for reply in replies],
    )


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(conversations=st.lists(CONVERSATION, max_size=4), replies=st.lists(TEXT, max_size=4))
def test_together_is_the_same_as_one_by_one(
    tokenizer: PreTrainedTokenizerBase, conversations: list[Messages], replies: list[str]
) -> None:
    """Also without the check of the first few."""
    renderer = BatchRenderer(tokenizer)
    renderer._unchecked = 0
    assert renderer.render(conversations, replies) == one_by_one(tokenizer, conversations, replies)


def test_what_looks_beyond_a_piece_goes_the_slow_way() -> None:
    """Metaspace treats the first piece in its own way; byte-level BPE sees one piece at a time."""
    assert {name: BatchRenderer(each).is_quick for name, each in TOKENIZERS.items()} == {
        "bytes": True,
        "words": True,
        "Metaspace": False,
        "truncating": True,
    }
    stripping = byte_tokenizer()
    stripping.backend_tokenizer.normalizer = normalizers.Strip()
    assert not BatchRenderer(stripping).is_quick


def test_the_quick_way_is_left_when_it_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first conversations are rendered both ways; then only if both were the same."""
    tokenizer = TOKENIZERS["bytes"]
    conversations: list[Messages] = [[{"role": "user", "content": "早"}]] * (CHECKED + 5)
    slow: list[int] = []

    def counting(tokenizer: PreTrainedTokenizerBase, messages: Messages) -> list[int]:
        slow.append(1)
        return render_prompt(tokenizer, messages)

    monkeypatch.setattr("adapters.prompt_batch.render_prompt", counting)
    good = BatchRenderer(tokenizer)
    for _ in range(2):
        assert good.render(conversations, [])[0] == one_by_one(tokenizer, conversations, [])[0]
    assert len(slow) == CHECKED
    bad = BatchRenderer(tokenizer)
    monkeypatch.setattr(bad, "_encode", lambda pieces: {piece: [0] for piece in pieces})
    for _ in range(2):
        assert bad.render(conversations, ["早"]) == one_by_one(tokenizer, conversations, ["早"])


def test_a_template_that_refuses_is_heard() -> None:
    """It is for the caller to find out which conversation it was."""
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(TemplateError):
        BatchRenderer(tokenizer).render([[{"role": "user", "content": "早"}]], [])
