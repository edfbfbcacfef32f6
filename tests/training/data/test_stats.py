"""A dataset in numbers, held to what counting by hand gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.dataset import PreparedDataset, prepare
from training.data.encoded import Encoded
from training.data.example import Example
from training.data.rules import read_rules
from training.data.stats import Distribution, Padding, dataset_stats, paddings, token_stats
from training.data.tokens import open_tokens

RAW = {
    "train": [["早", "早安"], ["吃了吗", "吃了", "嗯"], ["早", "早安"], ["你好", "在"]],
    "valid": [["你好", "在"], ["a", "b", "c", "d"]],
    "test": [["a", "b", "c", "d"]],
}


@pytest.fixture
def dataset(tmp_path: Path) -> PreparedDataset:
    raw, more = tmp_path / "raw.json", tmp_path / "more.jsonl"
    raw.write_text(json.dumps(RAW), encoding="utf-8")
    messages = [{"role": "user", "content": "早"}, {"role": "assistant", "content": "早安"}]
    more.write_text(json.dumps({"messages": messages}), encoding="utf-8")
    rules = read_rules("default", ["leaks=false"])
    return prepare([raw, more], "toy", tmp_path / "datasets", rules=rules)


def test_splits_are_counted(dataset: PreparedDataset) -> None:
    """Turns and lengths, what is repeated in a split, and what a later split has too.

    What is said counts, not whether the file tells who says it.
    """
    seen: list[tuple[int, int]] = []
    splits = dataset_stats(dataset, lambda *step: seen.append(step))
    assert list(splits) == ["train", "validation", "test"]
    train = splits["train"]
    assert (train.dialogues, train.with_roles, train.repeated, train.leaked) == (5, 1, 2, 1)
    assert train.utterances.counts == [0, 0, 4, 1]
    assert train.characters.counts == [0, 0, 0, 4, 0, 0, 1]
    assert train.characters_an_utterance.counts == [0, 5, 5, 1]
    assert train.utterances.mean == pytest.approx(11 / 5)
    validation = splits["validation"]
    assert (validation.repeated, validation.leaked) == (0, 1)
    assert (splits["test"].repeated, splits["test"].leaked) == (0, 0)
    assert seen[-1] == (8, 8)


def test_an_empty_split_has_no_lengths(tmp_path: Path) -> None:
    """And is no special case."""
    raw = tmp_path / "raw.json"
    raw.write_text(json.dumps([["a", "b"]]))
    splits = dataset_stats(prepare([raw], "toy", tmp_path / "datasets"))
    assert splits["test"].utterances == Distribution(0, 0.0, {50: 0, 90: 0, 99: 0}, 0, [])


@given(st.lists(st.integers(0, 50), min_size=1))
def test_a_distribution_is_that_of_its_numbers(numbers: list[int]) -> None:
    """Percentiles are the least number that so many do not exceed."""
    found = Distribution.of(np.bincount(numbers))
    assert (found.many, found.greatest) == (len(numbers), max(numbers))
    assert found.mean == pytest.approx(sum(numbers) / len(numbers))
    for share, value in found.percentiles.items():
        assert sum(number <= value for number in numbers) >= share / 100 * len(numbers)
        assert sum(number < value for number in numbers) < share / 100 * len(numbers)


def test_padding_is_what_each_way_would_take() -> None:
    """By hand, for batches of two: neighbours by length waste less than all to one length."""
    lengths = np.array([10, 30, 20, 40] * 16)
    found = {one.scheme: one.useful for one in paddings(lengths, 100)}
    assert found["end to end, as `train` does"] == 1.0
    assert found["all to 100 tokens"] == pytest.approx(25 / 100)
    assert found["batches of 8 of like length"] == 1.0
    assert found["batches of 32 of like length"] == pytest.approx(50 / 60)
    assert found["random batches of 32"] == pytest.approx(25 / 40, abs=0.01)
    assert found["random batches of 32"] < found["random batches of 2"] < 1
    assert list(paddings(np.empty(0, int), 100)) == []


def test_tokens_are_counted(tmp_path: Path) -> None:
    """Sequences by length, the share with loss, cuts, and the waste of padding."""
    examples = [Example([1] * 4, [False] * 2 + [True] * 2), Example([1] * 8, [False] * 7 + [True])]
    files = open_tokens(
        tmp_path / "tokens", {}, lambda writer: writer.write(Encoded.of([examples]), 1)
    )
    found = token_stats(files, "tiny", 16)
    assert found.sequences.counts == [0, 0, 0, 0, 1, 0, 0, 0, 1]
    assert (found.tokens, found.target_share, found.cut) == (12, 0.25, {})
    assert found.padding[-1] == Padding("all to 16 tokens", 12 / 32)
