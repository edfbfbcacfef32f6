"""Stages: a share of all of them, whatever each counts."""

from __future__ import annotations

from training.stages import Stage, Stages


def test_each_stage_is_an_equal_part_of_all() -> None:
    """Told at its beginning already, where nobody knows yet how much it is."""
    told: list[Stage] = []
    stages = Stages([("merging", "cat"), ("comparing", "cat")], told.append)

    stages.begin()(1, 2)
    stages.begin()(64, 64)

    assert told == [
        Stage("merging", "cat", 0, 0, 0.0),
        Stage("merging", "cat", 1, 2, 0.25),
        Stage("comparing", "cat", 0, 0, 0.5),
        Stage("comparing", "cat", 64, 64, 1.0),
    ]
