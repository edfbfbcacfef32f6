"""Waiting: models take turns, priorities help, and everybody's wait is bounded."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.engine.sequence import HEAD_START
from server.engine.turns import Turns
from server.engine.types import PRIORITIES
from tests.server.engine.scripted import sequence


def serve(turns: Turns) -> int:
    """The key of the next one, which is taken."""
    first = turns.first()
    assert first is not None
    turns.take(first)
    turns.check_integrity()
    return first.key


def test_models_take_turns() -> None:
    """Three in one line and one in each of two others: nobody's second comes before a first."""
    turns = Turns()
    for key, model in enumerate(["a", "a", "a", None, "b"]):
        turns.add(sequence(key, model=model))
    assert [serve(turns) for _ in range(5)] == [0, 3, 4, 1, 2]
    assert turns.first() is None


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 6),
    st.lists(st.integers(0, 9), max_size=40),
    st.lists(st.booleans(), max_size=60),
)
def test_a_flood_delays_anothers_first_request_by_one_turn_of_each_model(
    models: int, served: list[int], arrives: list[bool]
) -> None:
    """With M other models waiting, it is served after at most M others, whatever keeps coming."""
    turns, keys = Turns(), iter(range(10_000))
    for model in range(models):
        for _ in range(50):
            turns.add(sequence(next(keys), model=str(model)))
    for _ in served:
        serve(turns)
    alone = sequence(next(keys), model="alone")
    turns.add(alone)
    before = 0
    for flood in (*arrives, *[True] * 20):
        if flood:
            turns.add(sequence(next(keys), model=str(before % models)))
        if serve(turns) == alone.key:
            break
        before += 1
    assert before <= models


def test_a_model_that_left_the_line_does_not_gain_by_it() -> None:
    """Sending one request after the other, it still takes every second turn."""
    turns = Turns()
    for key in range(6):
        turns.add(sequence(key, model="flood"))
    order = []
    for key in range(10, 13):
        turns.add(sequence(key, model="single"))
        order += [serve(turns), serve(turns)]
    assert order == [0, 10, 1, 11, 2, 12]


def test_absence_earns_no_credit() -> None:
    """A model that comes late takes its turns from now on, not all those that it left out."""
    turns = Turns()
    for key in range(30):
        turns.add(sequence(key, model="early"))
    for _ in range(20):
        serve(turns)
    for key in range(100, 105):
        turns.add(sequence(key, model="late"))
    order = [serve(turns) for _ in range(6)]
    assert [key >= 100 for key in order] == [True, False] * 3


def test_who_gives_up_has_not_used_a_turn() -> None:
    """After a hundred cancelled requests the next one is not the hundred-and-first."""
    turns = Turns()
    for key in range(100):
        turns.add(sequence(key, model="fickle"))
    turns.add(sequence(100, model="other"))
    for key in range(100):
        found = turns.find(key)
        assert found is not None
        turns.remove(found)
    turns.add(sequence(101, model="other"))
    turns.add(sequence(102, model="fickle"))
    assert [serve(turns) for _ in range(3)] == [100, 102, 101]


def test_priority_goes_first_within_a_line_and_between_lines() -> None:
    """Higher is sooner; equals keep their order."""
    turns = Turns()
    for key, (model, priority) in enumerate([("a", 0), ("b", 0), ("a", 1), ("c", 2), ("c", -1)]):
        turns.add(sequence(key, model=model, priority=priority))
    assert [serve(turns) for _ in range(5)] == [3, 2, 1, 0, 4]


@pytest.mark.parametrize("is_same_model", [True, False])
@pytest.mark.parametrize(("low", "high"), [(-1, 1), (PRIORITIES[0], PRIORITIES[-1])])
def test_a_low_priority_is_served_in_spite_of_a_flood_of_a_high_one(
    low: int, high: int, is_same_model: bool
) -> None:
    """A level is worth one head start, and no more, also between the lowest and the highest."""
    turns = Turns()
    humble = sequence(0, model="a", priority=low)
    turns.add(humble)
    for before in range(1, 1000):
        turns.add(sequence(before, model="a" if is_same_model else "b", priority=high))
        if serve(turns) == humble.key:
            break
    levels = high - low
    assert (levels - 1) * HEAD_START < before <= levels * HEAD_START + 2
