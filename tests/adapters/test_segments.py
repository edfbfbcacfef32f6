"""Texts by segments: the tokens that the tokenizer itself gives, whatever its vocabulary."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from adapters import segments
from adapters.borders import WORD_PATTERNS, Borders, has_borders
from adapters.segments import SegmentEncoder

# Han characters of which some share first or last bytes, so that tokens cross them in part.
SIGNS = "一丁七丄丅吃了吗在火锅瓜慢"
TEXT = st.text(st.sampled_from(SIGNS + "，。！…ab1 \n'́"), max_size=12) | st.text(max_size=6)


def bytes_with(pattern: str | None) -> pre_tokenizers.PreTokenizer:
    """Byte-level, with GPT-2's words, or those of ``pattern``, or none where it is empty."""
    if pattern is None:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if not pattern:
        return byte_level
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])


def trained(pattern: str | None, *, size: int = 420) -> Tokenizer:
    """Merges of texts at random."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = bytes_with(pattern)
    tokenizer.decoder = decoders.ByteLevel()
    chance = random.Random(0)
    texts = ["".join(chance.choices(SIGNS + "，。", k=9)) for _ in range(300)]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def crossing() -> Tokenizer:
    """One whose tokens end and begin within characters: 了 with the next one's first byte."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    sign = bytes_to_unicode()
    spelled = {char: "".join(sign[byte] for byte in char.encode()) for char in SIGNS}
    merges: list[tuple[str, str]] = []
    for char in "了吃":
        one, two, three = spelled[char]
        merges += [(one, two), (one + two, three)]
    le, lead, tail = spelled["了"], spelled["火"][0], spelled["吗"][2]
    merges += [(le, lead), (tail, spelled["在"][0]), (tail + spelled["在"][0], spelled["在"][1])]
    vocabulary = {token: at for at, token in enumerate(sorted(sign.values()))}
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = bytes_with(WORD_PATTERNS[0])
    return tokenizer


def composing() -> Tokenizer:
    tokenizer = trained(WORD_PATTERNS[0])
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


TOKENIZERS = {
    "GPT-2's words": trained(None),
    "Qwen's words": trained(WORD_PATTERNS[0]),
    "Llama's words": trained(WORD_PATTERNS[1]),
    "no words": trained(""),
    "few merges": trained(None, size=280),
    "crossing": crossing(),
    "composing": composing(),
    "unknown words": trained(r"\p{L}{1,2}|."),
}


def whole(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    return [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]


def split(encoder: SegmentEncoder, texts: list[str]) -> list[list[int]]:
    flat, ends = encoder.encode(texts)
    starts = [0, *ends.tolist()]
    return [flat[start:end].tolist() for start, end in pairwise(starts)]


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(texts=st.lists(TEXT, max_size=5))
def test_segments_give_the_tokenizers_own_tokens(tokenizer: Tokenizer, texts: list[str]) -> None:
    """Also when all was met before, and when what was met is forgotten."""
    encoder = SegmentEncoder(tokenizer)
    assert split(encoder, texts) == split(encoder, texts) == whole(tokenizer, texts)
    encoder._forget()
    assert split(encoder, texts[::-1]) == whole(tokenizer, texts[::-1])


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_every_pair_of_characters_is_parted_rightly(tokenizer: Tokenizer) -> None:
    """One by one, behind a line's end too where that is said to be a border."""
    encoder = SegmentEncoder(tokenizer)
    pairs = [one + other for one in SIGNS for other in SIGNS + "，。"]
    assert split(encoder, pairs) == whole(tokenizer, pairs)
    if encoder.parts_from_han("user\n"):
        (lead,) = whole(tokenizer, ["user\n"])
        for text in pairs:
            assert whole(tokenizer, ["user\n" + text])[0] == lead + whole(tokenizer, [text])[0]


def test_borders_are_where_no_token_lies() -> None:
    """Characters that share a token are not parted, be it by a part of them; others are."""
    borders = Borders(TOKENIZERS["crossing"])

    def parts(text: str) -> list[int]:
        return borders.within(np.array([ord(sign) for sign in text], np.uint32)).tolist()

    assert parts("吃了吗") == [1, 2]
    assert parts("了火") == []  # both begin with the same byte, which 了 has a token with
    assert parts("吗在") == []
    assert parts("吗锅了") == [1, 2]
    assert parts("了a了，了") == [3]


def test_most_segments_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """New texts of known segments never reach the tokenizer; memory for them is bounded."""
    encoder = SegmentEncoder(TOKENIZERS["crossing"])
    encoder.encode(["吃了吗，", "火锅"])
    known = len(encoder._numbers)
    encoder.encode(["吗，吃吃火锅"])
    assert len(encoder._numbers) == known + 1  # 吗，吃
    monkeypatch.setattr(segments, "REMEMBERED", 3)
    encoder.encode(["瓜"])
    assert list(encoder._numbers) == ["瓜"]


def test_only_known_tokenizers_have_borders() -> None:
    """Not with unknown words, other normalizers, prefixes, or whole words that need no merges."""
    assert {name for name, each in TOKENIZERS.items() if not has_borders(each)} == {"unknown words"}
    for change in ("normalizer", "prefix", "ignore_merges", "dropout", "none"):
        tokenizer = trained(None, size=280)
        if change == "normalizer":
            tokenizer.normalizer = normalizers.NFKC()
        elif change == "prefix":
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        elif change == "none":
            tokenizer.pre_tokenizer = None
        else:
            setattr(tokenizer.model, change, 0.1 if change == "dropout" else True)
        assert not has_borders(tokenizer), change
