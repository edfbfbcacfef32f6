"""Groups: which members are one too many, and which dialogues belong together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.groups import NEIGHBOURS, clusters, first_of_each

TRAIN, VALIDATION, TEST = 0, 1, 2


def test_a_group_keeps_one_member_in_its_last_split() -> None:
    """Repeats and leaks are told apart; the first of equals stays."""
    groups = np.array([7, 7, 7, 7, 7, 3, 3, 9])
    splits = np.array([TRAIN, VALIDATION, TRAIN, TEST, TEST, TRAIN, TRAIN, VALIDATION])
    repeats, leaks = first_of_each(groups, splits)
    assert np.flatnonzero(leaks).tolist() == [0, 1, 2]
    assert np.flatnonzero(repeats).tolist() == [4, 6]


@pytest.mark.parametrize(("within", "across", "repeated", "leaked"), [
    (True, False, [2, 4], []),
    (False, True, [], [0, 1, 2]),
    (False, False, [], []),
])  # fmt: skip
def test_either_can_be_allowed(
    within: bool, across: bool, repeated: list[int], leaked: list[int]
) -> None:
    """Without the search for leaks every split keeps its first."""
    groups, splits = np.zeros(5, int), np.array([TRAIN, VALIDATION, TRAIN, TEST, TEST])
    repeats, leaks = first_of_each(groups, splits, within=within, across=across)
    assert np.flatnonzero(repeats).tolist() == repeated
    assert np.flatnonzero(leaks).tolist() == leaked


def test_a_tie_decides_who_stays() -> None:
    """The least, so that the order of the members does not matter."""
    repeats, _ = first_of_each(np.zeros(3, int), np.zeros(3, int), tie=np.array([5, 2, 9]))
    assert repeats.tolist() == [True, False, True]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=12))
def test_one_of_each_group_always_stays(members: list[tuple[int, int]]) -> None:
    """And it is the only one, in the last split that the group has."""
    groups = np.array([group for group, _ in members], int)
    splits = np.array([split for _, split in members], int)
    repeats, leaks = first_of_each(groups, splits)
    assert not (repeats & leaks).any()
    kept = np.flatnonzero(~repeats & ~leaks)
    assert sorted(groups[kept]) == sorted(set(groups))
    assert all(splits[at] == splits[groups == groups[at]].max() for at in kept)


def test_alike_dialogues_are_found_through_any_band_and_any_chain() -> None:
    """1 and 2 agree in the first band, 2 and 5 in the second; 3 and 4 agree but are not alike."""
    bands = [np.array([0, 1, 1, 2, 2, 3]), np.array([0, 1, 9, 2, 3, 9])]
    asked: list[list[int]] = []

    def are_alike(pairs: np.ndarray) -> np.ndarray:
        asked.extend(pairs.tolist())
        return np.array([{*pair} != {3, 4} for pair in pairs.tolist()])

    groups = clusters(bands, np.arange(6), are_alike)
    assert groups.tolist() == [0, 1, 1, 3, 4, 1]
    assert sorted(map(sorted, asked)) == [[1, 2], [2, 5], [3, 4]]


def test_what_is_joined_is_not_compared_again() -> None:
    """A second band with the same keys asks about nobody, and a large one about a few each."""
    keys = np.zeros(50, int)
    asked: list[int] = []

    def are_alike(pairs: np.ndarray) -> np.ndarray:
        asked.append(len(pairs))
        return np.ones(len(pairs), bool)

    assert set(clusters([keys, keys], np.arange(50), are_alike).tolist()) == {0}
    assert asked == [49]
    asked.clear()
    unlike = clusters([keys], np.arange(50), lambda pairs: np.zeros(len(pairs), bool))
    assert unlike.tolist() == list(range(50))


def test_a_large_band_is_searched_in_bounded_time() -> None:
    """Each dialogue is compared with a few before it and with the first, whatever their number."""
    many = 1000
    compared: list[int] = []

    def are_alike(pairs: np.ndarray) -> np.ndarray:
        compared.append(len(pairs))
        return np.zeros(len(pairs), bool)

    clusters([np.zeros(many, int)], np.arange(many), are_alike)
    assert many < sum(compared) <= (NEIGHBOURS + 1) * many
