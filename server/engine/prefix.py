"""Which blocks of the cache hold which tokens: exactly, and apart for every adapter."""

from __future__ import annotations

import itertools

# What a block follows. An ``int`` names the block before it, by a number that is never used again;
# at the start of a text it is the digest of the adapter that computes it, ``None`` for the base.
Link = int | str | None
Key = tuple[Link, tuple[int, ...]]


class PrefixIndex:
    """Blocks, full or at a text's end, by what they follow and the tokens they hold.

    A chain of links tells adapter and all tokens up to a block's end, so a hit is never a guess.
    """

    def __init__(self) -> None:
        self._found: dict[Key, tuple[int, int]] = {}  # -> the block, and its own link
        self._keys: dict[int, Key] = {}
        self._links = itertools.count()

    def __contains__(self, block: int) -> bool:
        return block in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, link: Link, tokens: tuple[int, ...]) -> tuple[int, int] | None:
        """The block that holds ``tokens`` after ``link``, with its own link."""
        return self._found.get((link, tokens))

    def add(self, block: int, link: Link, tokens: tuple[int, ...]) -> int:
        """Make ``block`` findable; returns its link. No other block may hold the same."""
        key = (link, tokens)
        assert key not in self._found, "the same tokens are in two blocks"
        assert block not in self._keys, f"block {block} already holds other tokens"
        own = next(self._links)
        self._found[key] = (block, own)
        self._keys[block] = key
        return own

    def forget(self, block: int) -> None:
        """Its content is about to be overwritten. What follows it is never found again."""
        del self._found[self._keys.pop(block)]

    def parents(self) -> dict[int, int]:
        """For each block that follows another which is still findable, that other block."""
        blocks = {link: block for block, link in self._found.values()}
        return {
            block: blocks[link]
            for block, (link, _) in self._keys.items()
            if isinstance(link, int) and link in blocks
        }

    def check_integrity(self) -> None:
        """Assert that both directions agree and that no chain has lost its beginning."""
        there = {block: key for key, (block, _) in self._found.items()}
        assert there == self._keys, "the prefix index disagrees with itself"
        inner = sum(isinstance(link, int) for link, _ in self._keys.values())
        assert len(self.parents()) == inner, "a block is kept that nobody can reach"
