"""A measured quantity over the steps, and a view of it that a screen has room for."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import msgspec


class Bucket(msgspec.Struct, frozen=True, gc=False):
    """Neighbouring points: from and to which step, and the least, greatest and last value."""

    first_step: int
    last_step: int
    low: float
    high: float
    last: float


class Curve:
    """Points by rising step. :meth:`buckets` costs, after the first time, what has been added."""

    def __init__(self, limit: int = 1000) -> None:
        self.steps: list[int] = []
        self.values: list[float] = []
        self._limit = limit
        self._size = 1
        self._whole: list[Bucket] = []

    def extend(self, points: Iterable[tuple[int, float]]) -> None:
        """Add points, each of a later step than the one before."""
        for step, value in points:
            self.steps.append(step)
            self.values.append(value)

    def drop_after(self, step: int) -> None:
        """Forget the points of later steps."""
        kept = bisect_right(self.steps, step)
        del self.steps[kept:], self.values[kept:]
        del self._whole[kept // self._size :]

    def buckets(self) -> list[Bucket]:
        """All points in at most ``limit`` buckets of equally many; the last may have fewer.

        No extreme is lost: each bucket keeps its least and greatest value.
        """
        while len(self.steps) > self._size * self._limit:
            self._size *= 2
            self._whole = []
        while (len(self._whole) + 1) * self._size <= len(self.steps):
            self._whole.append(self._bucket(len(self._whole)))
        rest = len(self._whole) * self._size < len(self.steps)
        return [*self._whole, *([self._bucket(len(self._whole))] if rest else [])]

    def between(self, first_step: int, last_step: int, limit: int) -> list[Bucket]:
        """The points of these steps and one on either side, in at most ``limit`` buckets."""
        start = max(0, bisect_left(self.steps, first_step) - 1)
        end = min(len(self.steps), bisect_right(self.steps, last_step) + 1)
        size = max(1, -(-(end - start) // limit))
        return [self._slice(at, min(at + size, end)) for at in range(start, end, size)]

    def _bucket(self, index: int) -> Bucket:
        start = index * self._size
        return self._slice(start, min(start + self._size, len(self.steps)))

    def _slice(self, start: int, end: int) -> Bucket:
        values = self.values[start:end]
        return Bucket(self.steps[start], self.steps[end - 1], min(values), max(values), values[-1])
