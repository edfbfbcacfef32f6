"""Likeness: what counts, and that pairs which are alike are found."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.dialogue import Dialogue
from training.data.likeness import (
    FOUND_SHARE,
    SLOTS,
    Banding,
    band_keys,
    likeness,
)

DIALOGUE = st.builds(Dialogue, st.lists(st.text("早安好的ab ，", max_size=6), max_size=4))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (["早", "早安"], ["早！", "早 安～"], 1.0),
        (["OK", "好"], ["ｏｋ", "好"], 1.0),
        (["早", "早安"], ["早早", "安"], 3 / 6),
        (["今天好热", "多喝水"], ["今天好冷", "多喝水"], 7 / 11),
        (["早"], ["晚"], 0.0),
        (["……", "！"], ["……", "！"], 0.0),
        ([], [], 0.0),
    ],
)
def test_likeness_is_what_two_share_of_what_they_have(
    one: list[str], other: list[str], expected: float
) -> None:
    """Punctuation, width, case and spaces do not count, where an utterance ends does."""
    assert likeness(Dialogue(one), Dialogue(other)) == pytest.approx(expected)


def test_dialogues_under_different_system_prompts_are_not_alike() -> None:
    """The same words are then another lesson."""
    one, other = (Dialogue(["早", "早安"], system) for system in ("猫", "狗"))
    assert (likeness(one, one), likeness(one, other)) == (1.0, 0.0)


@given(DIALOGUE, DIALOGUE)
def test_likeness_has_no_direction(one: Dialogue, other: Dialogue) -> None:
    """And lies between nothing and all."""
    assert 0 <= likeness(one, other) == likeness(other, one) <= 1


@given(st.lists(DIALOGUE, min_size=1, max_size=6))
def test_keys_depend_on_the_dialogue_alone(dialogues: list[Dialogue]) -> None:
    """Not on those it is computed with; what is wholly alike has all keys in common."""
    banding = Banding(4, 2)
    keys = band_keys([*dialogues, *dialogues], banding)
    assert keys.shape == (2 * len(dialogues), 4)
    for index, dialogue in enumerate(dialogues):
        alone = band_keys([Dialogue([f"{text}！" for text in dialogue.utterances])], banding)
        assert np.array_equal(keys[index], alone[0])
        assert np.array_equal(keys[len(dialogues) + index], alone[0])


@pytest.mark.parametrize("threshold", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])
def test_the_bands_find_what_is_at_the_threshold(threshold: float) -> None:
    """By the theory at least 99 % of pairs, and with no fewer rows than that needs."""
    banding = Banding.for_threshold(threshold)
    assert banding.bands * banding.rows <= SLOTS
    assert banding.chance(threshold) >= FOUND_SHARE
    longer = Banding(SLOTS // (banding.rows + 1), banding.rows + 1)
    assert longer.bands == 0 or longer.chance(threshold) < FOUND_SHARE


def test_signatures_find_as_many_pairs_as_the_theory_says() -> None:
    """Of 400 random pairs with likenesses around the threshold; chance is bounded by the sum."""
    drawn = random.Random(5)
    banding = Banding.for_threshold(0.8)
    words = [chr(0x4E00 + number) for number in range(2000)]
    ones = ["".join(drawn.choices(words, k=40)) for _ in range(400)]
    others = [text[:20] + "".join(drawn.choices(words, k=number % 5)) + text[20 + number % 5 :]
              for number, text in enumerate(ones)]  # fmt: skip
    pairs = [(Dialogue([a, "嗯"]), Dialogue([b, "嗯"])) for a, b in zip(ones, others, strict=True)]
    one_keys = band_keys([one for one, _ in pairs], banding)
    other_keys = band_keys([other for _, other in pairs], banding)
    found = (one_keys == other_keys).any(axis=1).sum()
    expected = sum(banding.chance(likeness(*pair)) for pair in pairs)
    assert found == pytest.approx(expected, abs=12)
    unlike = (one_keys[:-1] == other_keys[1:]).any(axis=1).sum()
    assert unlike == 0


def test_no_dialogues_have_no_keys() -> None:
    """An empty shard is no special case for its caller."""
    assert band_keys([], Banding(3, 2)).shape == (0, 3)
