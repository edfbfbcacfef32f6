"""Random dialogues: LCCC's shape, from a seed alone."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import pytest

from training.data.reader import DialogueReader
from training.data.text import looks_pre_spaced
from training.synthetic.dialogues import random_dialogues, write_random_dialogues

MANY = list(random_dialogues(20_000, seed=3))


def test_a_seed_gives_the_same_dialogues() -> None:
    """And more of them begin as fewer do, in whole blocks; another seed gives others."""
    assert list(random_dialogues(12_000, seed=3))[:10_000] == MANY[:10_000]
    assert list(random_dialogues(100, seed=4)) != MANY[:100]


def test_turns_and_lengths_are_lcccs() -> None:
    """Of LCCC-base: 2.94 utterances a dialogue, 49 % with two, 11.6 characters an utterance."""
    turns = [len(one) for one in MANY]
    longer = [many for many in turns if many > 2]
    utterances = [text.replace(" ", "") for one in MANY for text in one]

    assert fmean(turns) == pytest.approx(2.94, rel=0.02)
    assert turns.count(2) / len(turns) == pytest.approx(0.492, abs=0.01)
    assert fmean(longer) == pytest.approx(3.86, rel=0.02)
    assert sum(many % 2 for many in longer) / len(longer) == pytest.approx(0.67, abs=0.03)
    assert fmean(map(len, utterances)) == pytest.approx(11.6, rel=0.05)
    assert all(utterances)


def test_what_is_written_is_read_as_such(tmp_path: Path) -> None:
    """As JSON Lines, and known to be spaced."""
    path = write_random_dialogues(tmp_path / "random.jsonl", 50, seed=3)

    with DialogueReader(path) as reader:
        read = [list(record.dialogue.utterances) for record in reader]
    assert read == list(random_dialogues(50, seed=3))
    assert looks_pre_spaced(read)
