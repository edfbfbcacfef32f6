"""The grammar varies what the user says, and nothing else."""

from __future__ import annotations

import random

from training.pocket.corpus import read_sample
from training.pocket.grammar import Grammar, read_grammar, vary

DIALOGUE = ["早", "今天好热，怎么办", "多喝水", "好", "嗯"]


def test_only_user_lines_vary() -> None:
    """The last utterance is the assistant's, and so is every second before it: all untouched."""
    grammar, rng = read_grammar(), random.Random(0)

    varied = [vary(DIALOGUE, grammar, rng) for _ in range(50)]

    assert {(one[0], one[2], one[4]) for one in varied} == {("早", "多喝水", "嗯")}
    assert len({one[1] for one in varied}) > 20


def test_a_seed_gives_the_same_variations() -> None:
    """Building the pocket base twice sees the same corpus."""
    grammar = read_grammar()

    one, two = ([vary(DIALOGUE, grammar, rng) for _ in range(20)] for rng in seeded())

    assert one == two


def seeded() -> list[random.Random]:
    """Two generators in the same state."""
    return [random.Random(5), random.Random(5)]


def test_wordings_stand_for_each_other() -> None:
    """A wording is replaced by one of its own set."""
    grammar = Grammar(wordings=(("甲", "乙"),), openings=(), endings=())
    rng = random.Random(1)

    said = {vary(["甲方", "好"], grammar, rng)[0] for _ in range(50)}

    assert said == {"甲方", "乙方"}


def test_no_held_out_phrasing_is_a_training_line() -> None:
    """Validation and test openings occur in no training dialogue of the bundled sample."""
    sample = read_sample("everyday")
    trained = {line for dialogue in sample["train"] for line in dialogue}

    held_out = [dialogue[0] for split in ("valid", "test") for dialogue in sample[split]]

    assert len(held_out) == 162
    assert trained.isdisjoint(held_out)
