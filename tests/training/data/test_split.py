"""The draw of held-out dialogues: by content, fair, and never empty-handed."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.split import ENOUGH_TO_HOLD_OUT, Shares, position
from training.errors import DataError

POSITIONS = st.lists(st.floats(0, 1, exclude_max=True), min_size=1)


def test_a_position_is_fixed_for_all_time() -> None:
    """The same on every machine and in every version, or old and new splits would leak."""
    assert position(["吃了吗", "吃了"], seed=0) == 0.6161807316527472
    assert position(["吃了吗", "吃了"], seed=1) == 0.49443336049394304
    assert position(["吃了吗吃了"], seed=0) == 0.31576870167875626


def test_positions_are_spread_evenly() -> None:
    """Shares are kept within what chance allows for 20,000 dialogues."""
    positions = [position([str(number), "嗯"], seed=0) for number in range(20_000)]
    shares = Shares(validation=0.1, test=0.05)
    splits = [shares.split_of(place) for place in positions]
    assert all(0 <= place < 1 for place in positions)
    assert splits.count("validation") == pytest.approx(2000, abs=170)  # four deviations
    assert splits.count("test") == pytest.approx(1000, abs=125)


def test_a_larger_share_keeps_what_was_held_out() -> None:
    """Raising a share moves dialogues out of training only, never back into it."""
    dialogues = [[str(number), "嗯"] for number in range(500)]
    small, large = Shares(validation=0.05, test=0.05), Shares(validation=0.2, test=0.1)
    for dialogue in dialogues:
        place = position(dialogue, seed=3)
        if small.split_of(place) != "train":
            assert large.split_of(place) == small.split_of(place)


@given(POSITIONS, st.randoms(use_true_random=False))
def test_the_order_of_dialogues_does_not_matter(
    positions: list[float], shuffler: random.Random
) -> None:
    """Also where one has to be held out."""
    shares = Shares(validation=0.01, test=0.01)
    shuffled = positions[:]
    shuffler.shuffle(shuffled)
    assert shares.holding_out_one(shuffled) == shares.holding_out_one(positions)


@given(POSITIONS)
def test_something_is_held_out_and_something_left_if_there_is_enough(
    positions: list[float],
) -> None:
    """One is moved out of training where twenty or more would give none, and only then."""
    shares = Shares(validation=0.01, test=0.01)
    widened = shares.holding_out_one(positions)
    before = [shares.split_of(place) for place in positions]
    after = [widened.split_of(place) for place in positions]
    in_train = {place for place in positions if shares.split_of(place) == "train"}
    if len(positions) >= ENOUGH_TO_HOLD_OUT and "validation" not in before and len(in_train) > 1:
        assert {p for p in positions if widened.split_of(p) == "validation"} == {min(in_train)}
        assert "train" in after
        assert after.count("test") == before.count("test")
    else:
        assert after == before


def test_no_validation_is_drawn_where_none_is_wanted() -> None:
    """A share of zero means zero, however many dialogues there are."""
    shares = Shares(validation=0, test=0.5).holding_out_one([0.0, 0.1] * 50)
    assert shares == Shares(validation=0, test=0.5)
    assert shares.split_of(0.0) == "train"


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0), (0, -0.1), (0.5, 0.5), (1, 0)])
def test_shares_that_leave_nothing_are_refused(validation: float, test: float) -> None:
    """Negative shares, and shares that add up to everything."""
    with pytest.raises(DataError, match="must leave something to train on"):
        Shares(validation=validation, test=test)
