"""From chunks of any length to what the kernels read of them, by the size of the step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from server.engine.blocks import BLOCK_TOKENS, blocks_for
from server.engine.cuda.inputs import joined, stack_of
from server.engine.cuda.mirror import Mirror
from server.engine.cuda.step import Step
from server.engine.sequence import Chunk

# Tokens of a tile.
TILE = 16
_NUMBERS = ("start", "count", "row", "rank")
_RECORD = np.dtype([("address", "i8"), *((name, "i4") for name in _NUMBERS)])
# In words, a tile's record, and what all parts begin at a multiple of: kernels are compiled anew
# for addresses that are no multiple of 16 bytes.
RECORD = _RECORD.itemsize // 4
ALIGNMENT = 4


class Pieces:
    """The inputs of steps in which sequences have one token or many.

    A step of one ``size`` is the same each time, and reads at the same addresses, whatever is sent
    for it: so it can be a graph. It has so many tokens, of which the last may be none, and as many
    tiles as any chunks of so many tokens come to; those that are left have no token.

    ``rows``, ``tokens`` and ``draws`` are the most sequences, tokens, and tokens to draw from.
    All inputs lie in one piece of memory and are sent in one transfer: ``sampled`` first, then what
    depends on the size, and the tables last, of which only those in use are sent.
    """

    def __init__(
        self, rows: int, tokens: int, draws: int, context_length: int, device: torch.device
    ) -> None:
        self._rows = rows
        self._draws = draws
        self._width = blocks_for(context_length)
        words = self._begins(tokens)[-1] + rows * self._width
        self._mirror = Mirror((words,), torch.int32, device)

    @property
    def sampled(self) -> torch.Tensor:
        """[draws]: which tokens are drawn from, in order; 0 for those that are none."""
        return self._mirror.device[: self._draws]

    def step(self, size: int, *, max_rank: int) -> Step:
        """The step of ``size`` tokens, whatever is sent for them."""
        tiles, tokens, positions, places, tables = self._parts(self._mirror.device, size)
        records = tiles.view(-1, RECORD)
        return Step(
            tokens=tokens,
            positions=positions,
            places=places,
            tile=TILE,
            tiles=len(records),
            starts=records[:, 2],
            counts=records[:, 3],
            rows=records[:, 4],
            ranks=records[:, 5],
            addresses=records.view(torch.int64)[:, 0],
            tables=tables.view(self._rows, self._width),
            max_rank=max_rank,
        )

    def send(self, chunks: Sequence[Chunk], unread: Mapping[int, int], size: int) -> None:
        """Send ``chunks``, which have up to ``size`` tokens, for the step of this size.

        ``unread``: for each sequence with a token that nobody has read, by its key, that token.
        """
        words = self._mirror.turn().numpy()
        tiles, tokens, positions, places, tables = self._parts(words, size)
        own = joined(chunks)
        tables.reshape(self._rows, -1)[: len(chunks), : own.shape[1]] = own
        counts = np.array([chunk.count for chunk in chunks], np.int32)
        begins = np.cumsum(counts) - counts
        given: list[int] = []
        for chunk in chunks:
            given += chunk.tokens or [unread[chunk.sequence.key]]
        at = _spans(np.array([chunk.start for chunk in chunks], np.int32), counts)
        row = np.repeat(np.arange(len(chunks)), counts)
        _fill(tokens, given, 0)
        _fill(positions, at, -1)
        _fill(places, own[row, at // BLOCK_TOKENS] * BLOCK_TOKENS + at % BLOCK_TOKENS, -1)
        _fill_tiles(tiles, chunks, begins, counts)
        wanted = np.array([len(chunk.sampled) for chunk in chunks], np.int32)
        _fill(words[: self._draws], _spans(begins + counts - wanted, wanted), 0)
        self._mirror.send(self._begins(size)[-1] + len(chunks) * self._width)

    def _parts(self, words: Any, size: int) -> list[Any]:
        """What ``words``, an array or a tensor, are in a step of ``size`` tokens.

        Tiles [tiles * RECORD], tokens, positions and places [size], tables [rows * width].
        """
        lengths = self._lengths(size)
        begins = self._begins(size)
        return [words[at : at + length] for at, length in zip(begins, lengths, strict=True)]

    def _begins(self, size: int) -> list[int]:
        """Where these parts begin."""
        *before, _ = (_aligned(length) for length in self._lengths(size))
        return list(accumulate(before, initial=_aligned(self._draws)))

    def _lengths(self, size: int) -> tuple[int, ...]:
        begun = min(self._rows, size)  # most tiles it takes where as many as can have a token
        tiles = begun + (size - begun) // TILE
        return tiles * RECORD, size, size, size, self._rows * self._width


def scored_tokens(chunks: Sequence[Chunk]) -> list[int]:
    """Which tokens of the step are scored."""
    begins = accumulate((chunk.count for chunk in chunks), initial=0)
    return [
        begin + position - chunk.start
        for begin, chunk in zip(begins, chunks, strict=False)
        for position in chunk.scored
    ]


def _fill_tiles(
    words: NDArray[np.int32],
    chunks: Sequence[Chunk],
    begins: NDArray[np.int32],
    counts: NDArray[np.int32],
) -> None:
    stacks = [stack_of(chunk) for chunk in chunks]
    each = -(-counts // TILE)
    row = np.repeat(np.arange(len(chunks)), each)
    first = TILE * _spans(np.zeros_like(each), each)
    records = words[: len(row) * RECORD].view(_RECORD)
    records["address"] = np.array([0 if one is None else one.address for one in stacks])[row]
    records["rank"] = np.array([0 if one is None else one.rank for one in stacks])[row]
    records["start"] = begins[row] + first
    records["count"] = np.minimum(counts[row] - first, TILE)
    records["row"] = row
    words[len(row) * RECORD :] = 0


def _fill(part: NDArray[np.int32], given: Sequence[int] | NDArray[Any], rest: int) -> None:
    part[: len(given)] = given
    part[len(given) :] = rest


def _spans(firsts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    """``lengths`` whole numbers each from ``firsts`` on, one span after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1]) + np.repeat(firsts - ends + lengths, lengths)


def _aligned(words: int) -> int:
    return -(-words // ALIGNMENT) * ALIGNMENT
