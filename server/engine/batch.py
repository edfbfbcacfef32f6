"""One step's tokens, flattened: single tokens first, then the longer pieces of prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from server.engine.sequence import Chunk


@dataclass(frozen=True, slots=True)
class Row:
    """One token whose cache row ``slot`` holds ``length`` tokens once its own are written."""

    slot: int
    length: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens ``begin`` to ``end`` of the batch: the piece of one prompt after ``past`` tokens.

    ``mask``: [tokens, past + tokens], 0 where a token may look and -inf elsewhere; ``None`` where
    nothing precedes, so that plain causality does.
    """

    begin: int
    end: int
    slot: int
    past: int
    mask: torch.Tensor | None

    @property
    def length(self) -> int:
        return self.past + self.end - self.begin


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """What the decoder computes in one step.

    ``tokens``, ``positions`` and ``slots``: [T] int64. The first ``len(rows)`` of them are the
    single tokens. ``sampled``: [R] int64, the indices whose logits are wanted.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    slots: torch.Tensor
    rows: tuple[Row, ...]
    segments: tuple[Segment, ...]
    sampled: torch.Tensor


def in_batch_order(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The order in which :func:`build` lays ``chunks`` out."""
    return sorted(chunks, key=lambda chunk: chunk.count > 1)


def build(chunks: Sequence[Chunk], *, dtype: torch.dtype, device: torch.device) -> Batch:
    """The batch of ``chunks``, which are in batch order. ``dtype`` is the decoder's."""
    tokens: list[int] = []
    positions: list[int] = []
    slots: list[int] = []
    rows: list[Row] = []
    segments: list[Segment] = []
    sampled: list[int] = []
    for chunk in chunks:
        slot = chunk.sequence.slot
        assert slot is not None, "a waiting sequence has no place in a batch"
        begin = len(tokens)
        tokens += chunk.sequence.tokens[chunk.start : chunk.end]
        positions += range(chunk.start, chunk.end)
        slots += [slot] * chunk.count
        if chunk.count == 1:
            rows.append(Row(slot, chunk.end))
        else:
            mask = causal_mask(chunk.start, chunk.count, dtype, device) if chunk.start else None
            segments.append(Segment(begin, len(tokens), slot, chunk.start, mask))
        if chunk.is_sampled:
            sampled.append(len(tokens) - 1)
    lists = (tokens, positions, slots, sampled)
    flat = torch.tensor([*tokens, *positions, *slots, *sampled], dtype=torch.int64)
    on_device = flat.to(device)  # one transfer for all
    parts = on_device.split([len(each) for each in lists])
    return Batch(
        tokens=parts[0],
        positions=parts[1],
        slots=parts[2],
        rows=tuple(rows),
        segments=tuple(segments),
        sampled=parts[3],
    )


def causal_mask(past: int, count: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """[count, past + count]: token ``i`` sees everything up to position ``past + i``."""
    mask = torch.full((count, past + count), float("-inf"), dtype=dtype, device=device)
    return mask.triu_(past + 1)
