"""What the kernels know of a step's tokens: where they stand, in which tiles, with which adapter."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """The tokens of one step, on the device. Nothing here but int32, addresses apart.

    ``tokens``, ``positions`` and ``places``: [T]. A token below 0 is the one that the step before
    drew in row ``-1 - token``; a position below 0 is no token at all, and its place is -1 too.

    ``tile``: how many tokens one has at most, 1 or 16. For each of ``tiles``: ``starts`` and
    ``counts``, its tokens; ``rows``, its line of ``tables`` [rows, blocks]; ``ranks`` and
    ``addresses`` (int64), its adapter. These lie in records: ``ranks.stride(0)`` words apart, an
    even number, and the addresses half as many.

    ``max_rank``: 0 where no token has an adapter, else at least the largest.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    places: torch.Tensor
    tile: int
    tiles: int
    starts: torch.Tensor
    counts: torch.Tensor
    rows: torch.Tensor
    ranks: torch.Tensor
    addresses: torch.Tensor
    tables: torch.Tensor
    max_rank: int

    @property
    def count(self) -> int:
        """Its tokens."""
        return self.tokens.shape[0]
