"""Packs: several token sequences in one row, without padding and without seeing each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from training.data.encode import Example


@dataclass(frozen=True, slots=True)
class Pack:
    """Sequences laid end to end in one row of ``T`` tokens with ``N`` targets.

    ``predicting`` are the positions whose output must give ``targets``: the positions before them.
    """

    input_ids: torch.Tensor  # [T] int64
    position_ids: torch.Tensor  # [T] int64, restarting at 0 with each sequence
    predicting: torch.Tensor  # [N] int64, indices into T
    targets: torch.Tensor  # [N] int64, token ids

    @property
    def tokens(self) -> int:
        return len(self.input_ids)


def pack(examples: Sequence[Example]) -> Pack:
    """Lay ``examples`` end to end."""
    ids: list[int] = []
    positions: list[int] = []
    predicting: list[int] = []
    for example in examples:
        offset = len(ids)
        ids += example.ids
        positions += range(len(example.ids))
        predicting += [
            offset + index - 1 for index, target in enumerate(example.is_target) if target
        ]
    input_ids = torch.tensor(ids)
    where = torch.tensor(predicting, dtype=torch.long)
    return Pack(input_ids, torch.tensor(positions), where, input_ids[where + 1])


def packs(examples: Iterable[Example], max_tokens: int) -> Iterator[Pack]:
    """Packs of at most ``max_tokens`` tokens each (a longer sequence is one alone), in order."""
    held: list[Example] = []
    size = 0
    for example in examples:
        if held and size + len(example.ids) > max_tokens:
            yield pack(held)
            held, size = [], 0
        held.append(example)
        size += len(example.ids)
    if held:
        yield pack(held)
