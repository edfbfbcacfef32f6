"""Which rows of the KV cache are taken. Knows nothing of what lies in them."""

from __future__ import annotations

import heapq


class SlotAllocator:
    """Hands out the numbers ``0 <= slot < count``, the lowest free one first.

    Low numbers first keeps the memory that was ever touched small.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = list(range(count))
        self._taken: set[int] = set()

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def taken(self) -> frozenset[int]:
        return frozenset(self._taken)

    def take(self) -> int:
        """Return a free slot; there must be one."""
        slot = heapq.heappop(self._free)
        self._taken.add(slot)
        return slot

    def give_back(self, slot: int) -> None:
        self._taken.remove(slot)
        heapq.heappush(self._free, slot)

    def check_integrity(self) -> None:
        """Assert that every slot is either free or taken, once."""
        free = set(self._free)
        assert len(free) == len(self._free), f"a slot is free twice: {sorted(self._free)}"
        assert not free & self._taken, f"free and taken: {sorted(free & self._taken)}"
        assert free | self._taken == set(range(self.count)), "a slot was lost"
