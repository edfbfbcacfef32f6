"""Packs: several token sequences in one row, without padding and without seeing each other.

What all sequences of a pack begin with, a system prompt above all, is laid down once, before them:
causal attention gives its tokens the same states whatever follows. So it is computed once, and its
gradient is the sum of what the sequences ask of it, as if each had its own. What follows the last
token that predicts a target is not computed at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from training.data.encode import Example


@dataclass(frozen=True, slots=True)
class Pack:
    """Sequences laid end to end in one row of ``T`` tokens with ``N`` targets.

    Each ends with the last token that predicts something. The first ``shared`` tokens belong to all
    of them; ``lengths`` are those of their own parts that follow. ``predicting`` are the positions
    whose output must give ``targets``.
    """

    input_ids: torch.Tensor  # [T] int64
    position_ids: torch.Tensor  # [T] int64, going on from `shared` with each sequence
    predicting: torch.Tensor  # [N] int64, indices into T
    targets: torch.Tensor  # [N] int64, token ids
    lengths: tuple[int, ...]
    shared: int = 0

    @property
    def tokens(self) -> int:
        return len(self.input_ids)


def pack(examples: Sequence[Example], *, share: bool = True) -> Pack:
    """Lay ``examples`` end to end; with ``share`` their common beginning once."""
    shared = common_beginning(examples) if share else 0
    ids = list(examples[0].ids[:shared])
    positions = list(range(shared))
    predicting: list[int] = []
    targets: list[int] = []
    lengths: list[int] = []
    for example in examples:
        offset = len(ids) - shared
        learnt = [at for at, is_target in enumerate(example.is_target) if is_target]
        end = learnt[-1] if learnt else len(example.ids)
        ids += example.ids[shared:end]
        positions += range(shared, end)
        predicting += [offset + at - 1 for at in learnt]
        targets += [example.ids[at] for at in learnt]
        lengths.append(end - shared)
    return Pack(
        torch.tensor(ids),
        torch.tensor(positions),
        torch.tensor(predicting, dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
        tuple(lengths),
        shared,
    )


def packs(examples: Iterable[Example], max_tokens: int, *, share: bool = True) -> Iterator[Pack]:
    """Packs of sequences that have at most ``max_tokens`` tokens together, in order.

    A longer sequence is one alone. What is shared counts in each: the bound, and with it what comes
    together, does not depend on ``share``.
    """
    held: list[Example] = []
    size = 0
    for example in examples:
        if held and size + len(example.ids) > max_tokens:
            yield pack(held, share=share)
            held, size = [], 0
        held.append(example)
        size += len(example.ids)
    if held:
        yield pack(held, share=share)


def common_beginning(examples: Sequence[Example]) -> int:
    """How many tokens all ``examples`` begin with, short of what predicts a target in any.

    A single one shares nothing.
    """
    if len(examples) < 2:  # noqa: PLR2004 # two share something
        return 0
    first = examples[0].ids
    shared = len(first)
    for example in examples:
        shared = min(shared, _first_predicting(example))
        if example.ids[:shared] != first[:shared]:
            pairs = zip(example.ids, first, strict=False)
            shared = next(at for at, (one, other) in enumerate(pairs) if one != other)
    return shared


def _first_predicting(example: Example) -> int:
    """The position before the first target."""
    return max(0, example.is_target.index(True) - 1) if any(example.is_target) else 0
