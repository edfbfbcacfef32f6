"""Steps for the tests of single kernels: texts, adapters, and the tiles that they lie in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from server.engine.cuda.step import Step


@dataclass(frozen=True)
class Piece:
    """``count`` tokens of a text from position ``past`` on. ``factors``: of its adapter."""

    past: int
    count: int = 1
    blocks: Sequence[int] = (0,)
    factors: torch.Tensor | None = None
    rank: int = 0
    tokens: Sequence[int] = field(default=())

    @property
    def positions(self) -> range:
        return range(self.past, self.past + self.count)


def step_of(pieces: Sequence[Piece], device: torch.device, *, tile: int, padding: int = 0) -> Step:
    """The step that computes ``pieces``; ``padding`` tokens more, and tiles, that are none."""
    tokens, positions, places = [], [], []
    records: list[list[int]] = []
    for row, piece in enumerate(pieces):
        for first in range(0, piece.count, tile):
            count = min(tile, piece.count - first)
            address = 0 if piece.factors is None else piece.factors.data_ptr()
            low, high = address & 0xFFFFFFFF, address >> 32
            words = [low - (low >> 31 << 32), high, len(tokens) + first, count, row, piece.rank]
            records.append(words)
        tokens += piece.tokens or [0] * piece.count
        positions += piece.positions
        places += [piece.blocks[at // 16] * 16 + at % 16 for at in piece.positions]
    tokens, places = tokens + [0] * padding, places + [-1] * padding
    positions += [-1] * padding
    records += [[0] * 6] * padding
    table = torch.tensor(records, dtype=torch.int32, device=device)
    width = max(len(piece.blocks) for piece in pieces)
    tables = torch.full((len(pieces) + padding, width), 9999, dtype=torch.int32)  # nowhere
    for row, piece in enumerate(pieces):
        tables[row, : len(piece.blocks)] = torch.tensor(piece.blocks)
    flat = torch.tensor([tokens, positions, places], dtype=torch.int32, device=device)
    return Step(
        tokens=flat[0],
        positions=flat[1],
        places=flat[2],
        tile=tile,
        tiles=len(records),
        starts=table[:, 2],
        counts=table[:, 3],
        rows=table[:, 4],
        ranks=table[:, 5],
        addresses=table.view(torch.int64)[:, 0],
        tables=tables.to(device),
        max_rank=max(piece.rank for piece in pieces),
    )
