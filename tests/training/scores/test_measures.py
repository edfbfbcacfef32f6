"""Measures of texts against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from training.scores.measures import (
    bleu,
    distinct,
    longest_common_subsequence,
    mean_length,
    repetition,
    rouge_l,
    share,
)


def test_bleu_is_papinenis_over_the_whole_corpus() -> None:
    """Counts are summed before they are divided, matches are clipped, short replies pay.

    First pair: 我爱你 / 我爱她: 2 of 3 characters, 1 of 2 pairs. Second: 好好 / 好: one 好 of two
    counts, its pair does not. Together 3 of 5 and 1 of 3, with 5 characters said for 4.
    """
    references, replies = ["我爱你", "好"], ["我爱她", "好好"]

    assert bleu(references, replies, 1) == pytest.approx(100 * 3 / 5)
    assert bleu(references, replies, 2) == pytest.approx(100 * math.sqrt(3 / 5 * 1 / 3))


def test_bleu_of_a_short_reply_has_the_brevity_penalty() -> None:
    """All of 今天 is right, but four characters were wanted: exp(1 - 4/2)."""
    assert bleu(["今天很好"], ["今天"], 2) == pytest.approx(100 * math.exp(-1))


def test_bleu_without_any_match_of_an_order_is_zero() -> None:
    """Unsmoothed, so nothing is made of nothing."""
    assert bleu(["一二三四"], ["一二三五"], 4) == 0
    assert bleu(["一二三四"], ["一二三五"], 3) > 0
    assert bleu(["一"], [""], 1) == 0


def test_rouge_l_is_the_mean_of_f1() -> None:
    """一二三四 and 一三五 share 一三: F1 of 2/4 and 2/3 is 4/7; the second pair shares nothing."""
    assert longest_common_subsequence("一二三四", "一三五") == 2
    assert rouge_l(["一二三四", "好"], ["一三五", "坏"]) == pytest.approx(100 * (4 / 7) / 2)


def test_distinct_counts_over_all_replies() -> None:
    """哈哈哈 and 哈好: five characters, two of them different; three pairs, two different."""
    assert distinct(["哈哈哈", "哈好"], 1) == pytest.approx(40)
    assert distinct(["哈哈哈", "哈好"], 2) == pytest.approx(100 * 2 / 3)
    assert distinct([], 1) == 0


def test_repetition_is_what_a_reply_has_said_before() -> None:
    """一二三四一二三四 has five runs of four, four different; a short reply repeats nothing."""
    assert repetition(["一二三四一二三四"]) == pytest.approx(20)
    assert repetition(["一二三四一二三四", "哈哈哈"]) == pytest.approx(10)


def test_white_space_does_not_count() -> None:
    """LCCC is spaced in many ways, and models are not."""
    assert bleu(["我 爱 你"], ["我爱你"], 2) == pytest.approx(100)
    assert rouge_l(["我爱 你"], [" 我爱你\n"]) == pytest.approx(100)
    assert mean_length(["我 爱", "你"]) == 1.5
    assert distinct(["好 好"], 1) == 50


def test_shares_are_percentages() -> None:
    """One of four."""
    assert share([True, False, False, False]) == 25
    assert share([]) == 0
