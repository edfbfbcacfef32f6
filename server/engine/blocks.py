"""Which blocks of the KV cache are held, by how many, and which are free. Knows no tensors.

A block whose content may be wanted again stays as it is when its last holder leaves, and is taken
for something else only when no empty one is left: the one that was longest unused first.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

from server.engine.prefix import Link, PrefixIndex

BLOCK_TOKENS = 16


def blocks_for(tokens: int) -> int:
    """How many blocks hold ``tokens``."""
    return -(-tokens // BLOCK_TOKENS)


class BlockPool:
    """Hands out the numbers ``0 <= block < count``. Owned by the engine thread."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._empty = list(range(count))  # a heap: low numbers first keeps touched memory small
        self._cached: OrderedDict[int, None] = OrderedDict()  # held by none; longest unused first
        self._holders: dict[int, int] = {}
        self._prefixes = PrefixIndex()

    def __contains__(self, block: int) -> bool:
        """Whether ``block`` can be found."""
        return block in self._prefixes

    @property
    def available(self) -> int:
        """Blocks that can be taken."""
        return len(self._empty) + len(self._cached)

    @property
    def held(self) -> int:
        """Blocks that somebody needs."""
        return len(self._holders)

    @property
    def cached(self) -> int:
        """Blocks that nobody needs, but that can be found again."""
        return len(self._cached)

    def take(self) -> int:
        """A block to write to; there must be one available."""
        if self._empty:
            block = heapq.heappop(self._empty)
        else:
            block, _ = self._cached.popitem(last=False)
            self._prefixes.forget(block)
        self._holders[block] = 1
        return block

    def release(self, blocks: Sequence[int]) -> None:
        """Give up one hold on each of ``blocks``, which are in the order of their tokens.

        The last goes first, so that the end of a text is overwritten before what it follows.
        """
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            del self._holders[block]
            if block in self._prefixes:
                self._cached[block] = None
            else:
                heapq.heappush(self._empty, block)

    def find(self, link: Link, tokens: tuple[int, ...]) -> tuple[int, int] | None:
        """Hold the block that has ``tokens`` after ``link``, if there is one; it, and its link."""
        found = self._prefixes.find(link, tokens)
        if found is not None:
            self._hold(found[0])
        return found

    def resume(self, link: Link, tokens: tuple[int, ...]) -> tuple[int, int] | None:
        """Take the block that its writer left with most of ``tokens`` after ``link``, to go on.

        Returns it and how many of ``tokens`` it holds. These are fewer than a block's; nobody
        finds it any more, for it is about to be written to.
        """
        for count in range(len(tokens), 0, -1):
            found = self._prefixes.find(link, tokens[:count])
            if found is not None:
                block, _ = found
                del self._cached[block]  # a part of a block is held by nobody
                self._prefixes.forget(block)
                self._holders[block] = 1
                return block, count
        return None

    def publish(self, block: int, link: Link, tokens: tuple[int, ...]) -> tuple[int, int]:
        """Make a ``block`` findable; returns the block to hold from now on, and its link.

        That is another one where the same tokens were published meanwhile: one copy is enough.
        One that is not full has to be released next.
        """
        found = self.find(link, tokens)
        if found is not None:
            self.release([block])
            return found
        return block, self._prefixes.add(block, link, tokens)

    def _hold(self, block: int) -> None:
        self._cached.pop(block, None)
        self._holders[block] = self._holders.get(block, 0) + 1

    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        """Assert that every block is empty, cached or held by exactly those ``tables``."""
        tables = [tuple(table) for table in tables]
        assert all(len(set(table)) == len(table) for table in tables), "a table names a block twice"
        held = Counter(block for table in tables for block in table)
        assert held == Counter(self._holders), f"held by {held}, counted {self._holders}"
        parts = (self._empty, self._cached, self._holders)
        everything = sorted(block for part in parts for block in part)
        assert everything == list(range(self.count)), "a block was lost, or is in two places"
        self._prefixes.check_integrity()
        assert all(block in self._prefixes for block in self._cached), "cached, but not findable"
        assert not any(block in self._prefixes for block in self._empty), "findable, but empty"
        assert all(held[block] == 1 for block in held if block not in self._prefixes), (
            "a block that is still written to is shared"
        )
        for block, parent in self._prefixes.parents().items():
            assert held[parent] >= held[block], "a text is held without its beginning"
