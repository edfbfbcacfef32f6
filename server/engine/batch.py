"""One step's tokens, flattened: single tokens first, then the longer pieces of prompts."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch

from server.engine.blocks import BLOCK_TOKENS
from server.engine.sequence import Chunk


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens ``begin`` to ``end`` of the batch: the piece of one text after ``past`` tokens.

    ``chunk`` is its index in the batch.
    """

    chunk: int
    begin: int
    end: int
    past: int

    @property
    def length(self) -> int:
        """Tokens that its last one looks at."""
        return self.past + self.end - self.begin


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What the decoder computes in one step.

    ``tokens``, ``positions`` and ``places``: [T] int64; the keys and values of a token go to
    ``place = block * BLOCK_TOKENS + offset``. Chunk ``c`` is the tokens ``begins[c]`` to
    ``begins[c] + counts[c]``, and ``pasts[c]`` tokens precede it in its blocks, which are row ``c``
    of ``tables``: [C, W] int32, padded with 0. Chunks of one token come first. ``sampled``: [R]
    int64, the indices whose logits are wanted.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    places: torch.Tensor
    begins: tuple[int, ...]
    counts: tuple[int, ...]
    pasts: tuple[int, ...]
    tables: torch.Tensor
    sampled: torch.Tensor

    @property
    def rows(self) -> range:
        """The chunks of one token; token ``row`` is all of chunk ``row``."""
        return range(self.counts.count(1))

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The longer chunks."""
        return tuple(
            Segment(c, self.begins[c], self.begins[c] + self.counts[c], self.pasts[c])
            for c in range(len(self.rows), len(self.counts))
        )


def in_batch_order(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The order in which :func:`build` lays ``chunks`` out."""
    longer = [chunk for chunk in chunks if chunk.count > 1]
    return [*(chunk for chunk in chunks if chunk.count == 1), *longer] if longer else list(chunks)


def build(
    chunks: Sequence[Chunk], device: torch.device, unread: Mapping[int, int] = MappingProxyType({})
) -> Batch:
    """The batch of ``chunks``, which are in batch order and whose blocks are there.

    ``unread``: for each sequence with a token that nobody has read, by its key, that token.
    """
    tokens: list[int] = []
    positions: list[int] = []
    places: list[int] = []
    begins: list[int] = []
    sampled: list[int] = []
    for chunk in chunks:
        begin = len(tokens)
        begins.append(begin)
        tokens += chunk.tokens or [unread[chunk.sequence.key]]
        positions += range(chunk.start, chunk.end)
        places += _places(chunk)
        sampled += (begin + position - chunk.start for position in chunk.wanted)
    lists = (tokens, positions, places, sampled)
    flat = torch.tensor([*tokens, *positions, *places, *sampled], dtype=torch.int64)
    on_device = flat.to(device)  # one transfer for all
    parts = on_device.split([len(each) for each in lists])
    return Batch(
        tokens=parts[0],
        positions=parts[1],
        places=parts[2],
        begins=tuple(begins),
        counts=tuple(chunk.count for chunk in chunks),
        pasts=tuple(chunk.start for chunk in chunks),
        tables=_tables([chunk.sequence.blocks for chunk in chunks]).to(device),
        sampled=parts[3],
    )


def _places(chunk: Chunk) -> list[int]:
    blocks = chunk.sequence.blocks
    return [
        blocks[position // BLOCK_TOKENS] * BLOCK_TOKENS + position % BLOCK_TOKENS
        for position in range(chunk.start, chunk.end)
    ]


def _tables(blocks: Sequence[array[int]]) -> torch.Tensor:
    """[C, W] int32; copies bytes, for long texts have thousands of blocks."""
    width = max(map(len, blocks))
    padded = (each.tobytes().ljust(width * each.itemsize, b"\0") for each in blocks)
    joined = bytearray(b"".join(padded))
    return torch.frombuffer(joined, dtype=torch.int32).view(len(blocks), width)
