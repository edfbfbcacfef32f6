"""Curves: no extreme is lost in a view, and an update touches only what is new."""

from __future__ import annotations

import random

import pytest

from training.runs.curve import Bucket, Curve


def curve_of(values: list[float], limit: int = 8) -> Curve:
    curve = Curve(limit)
    curve.extend(enumerate(values, start=1))
    return curve


def test_few_points_are_shown_as_they_are() -> None:
    """A bucket each."""
    assert curve_of([3.0, 1.0]).buckets() == [
        Bucket(1, 1, 3.0, 3.0, 3.0),
        Bucket(2, 2, 1.0, 1.0, 1.0),
    ]
    assert curve_of([]).buckets() == []


@pytest.mark.parametrize("count", [8, 9, 16, 17, 1000])
def test_many_points_share_buckets_and_no_extreme_is_lost(count: int) -> None:
    """At most the limit, none without points, each with its least and greatest value."""
    values = [random.Random(step).random() for step in range(count)]
    buckets = curve_of(values).buckets()

    assert 4 < len(buckets) <= 8
    assert buckets[0].first_step == 1
    assert buckets[-1].last_step == count
    for bucket in buckets:
        inside = values[bucket.first_step - 1 : bucket.last_step]
        assert (bucket.low, bucket.high, bucket.last) == (min(inside), max(inside), inside[-1])
    steps = [step for one in buckets for step in range(one.first_step, one.last_step + 1)]
    assert steps == list(range(1, count + 1))


def test_a_growing_curve_shows_what_a_new_one_would() -> None:
    """However the points came, and after some were taken back."""
    values = [random.Random(step).random() for step in range(100)]
    grown = Curve(8)
    for index, value in enumerate(values, start=1):
        grown.extend([(index, value)])
        assert grown.buckets() == curve_of(values[:index]).buckets()

    grown.drop_after(60)
    grown.extend([(61, -1.0)])

    assert (grown.steps[-1], grown.values[-1]) == (61, -1.0)
    assert min(bucket.low for bucket in grown.buckets()) == -1.0
    assert [bucket.last for bucket in grown.buckets()][-1] == -1.0


def test_an_update_leaves_finished_buckets_alone() -> None:
    """They are not computed again: the same objects stand in the next view."""
    curve = curve_of([1.0] * 40)
    before = curve.buckets()
    curve.extend([(41, 2.0)])
    after = curve.buckets()

    assert all(old is new for old, new in zip(before[:5], after[:5], strict=True))
    assert after[-1].high == 2.0


def test_a_part_has_all_the_points_for_itself() -> None:
    """And one on either side, so that a line leaves the picture where it should."""
    curve = curve_of([float(step) for step in range(1, 101)])

    part = curve.between(20, 23, limit=8)
    whole = curve.between(0, 10**9, limit=8)

    assert [one.first_step for one in part] == [19, 20, 21, 22, 23, 24]
    assert len(whole) == 8
    assert (whole[0].first_step, whole[-1].last_step) == (1, 100)
    assert all(one.high == float(one.last_step) for one in whole)
    assert Curve().between(0, 10, limit=8) == []
