"""Groups of dialogues that say the same: how they are found, and which members are one too many.

Plain arrays with one element a dialogue; knows nothing of where dialogues lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from training.data.split import SPLITS

# With how many of those before it in a band a dialogue is compared. Bands of very many hold short
# dialogues of common words; all pairs of those would be too many, and other bands find them too.
NEIGHBOURS = 3

Pairs = np.ndarray  # [pairs, 2]: indices of dialogues
AreAlike = Callable[[Pairs], np.ndarray]


def first_of_each(
    groups: np.ndarray,
    splits: np.ndarray,
    *,
    tie: np.ndarray | None = None,
    within: bool = True,
    across: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Which members of ``groups`` are one too many: (within their split, across splits).

    A group keeps its members in the last split (test before validation before training) if
    ``across`` forbids others, and of the members in a split the one with the least ``tie``, or the
    first, if ``within`` forbids others.
    """
    many = len(groups)
    order = np.lexsort(
        (np.arange(many) if tie is None else tie, len(SPLITS) - splits.astype(int), groups)
    )
    group, split = groups[order], splits[order]
    opens_group = np.ones(many, bool)
    opens_group[1:] = group[1:] != group[:-1]
    opens_split = opens_group.copy()
    opens_split[1:] |= split[1:] != split[:-1]
    start = np.maximum.accumulate(np.where(opens_group, np.arange(many), 0))
    leaks, repeats = np.zeros(many, bool), np.zeros(many, bool)
    leaks[order] = (split != split[start]) & across
    repeats[order] = ~opens_split & within
    return repeats & ~leaks, leaks


def clusters(bands: Iterable[np.ndarray], rank: np.ndarray, are_alike: AreAlike) -> np.ndarray:
    """A number for each dialogue, equal for those that a chain of alike pairs connects.

    ``bands`` are arrays of keys, one key a dialogue; dialogues with an equal key may be alike, and
    ``are_alike`` says whether they are. ``rank`` orders the dialogues of a band.
    """
    forest = _Forest(len(rank))
    for keys in bands:
        for pairs in _neighbours(keys, rank):
            open_pairs = pairs[forest.are_apart(pairs)]
            if len(open_pairs):
                for one, other in open_pairs[are_alike(open_pairs)].tolist():
                    forest.join(one, other)
    return forest.roots(np.arange(len(rank)))


def _neighbours(keys: np.ndarray, rank: np.ndarray) -> Iterator[Pairs]:
    """Pairs of dialogues with an equal key: each with its neighbours before it, and the first."""
    order = np.lexsort((rank, keys))
    ordered = keys[order]
    opens = np.ones(len(order), bool)
    opens[1:] = ordered[1:] != ordered[:-1]
    start = np.maximum.accumulate(np.where(opens, np.arange(len(order)), 0))
    for distance in range(1, NEIGHBOURS + 1):
        later = np.flatnonzero(np.arange(len(order)) - start >= distance)
        yield np.stack((order[later - distance], order[later]), axis=1)
    later = np.flatnonzero(np.arange(len(order)) - start > NEIGHBOURS)
    yield np.stack((order[start[later]], order[later]), axis=1)


class _Forest:
    """Disjoint sets of numbers (union-find); the least member of a set stands for it."""

    def __init__(self, size: int) -> None:
        self._parents = np.arange(size, dtype=np.int32)

    def roots(self, members: np.ndarray) -> np.ndarray:
        """The least member of the set of each."""
        found = self._parents[members]
        while True:
            higher = self._parents[found]
            if np.array_equal(higher, found):
                self._parents[members] = found
                return found
            found = higher

    def are_apart(self, pairs: Pairs) -> np.ndarray:
        """For each pair whether it lies in two sets."""
        return self.roots(pairs[:, 0]) != self.roots(pairs[:, 1])

    def join(self, one: int, other: int) -> None:
        """Make one set of those of both."""
        low, high = sorted((self._root(one), self._root(other)))
        self._parents[high] = low

    def _root(self, member: int) -> int:
        parents = self._parents
        while parents[member] != member:
            parents[member] = parents[parents[member]]
            member = int(parents[member])
        return member
