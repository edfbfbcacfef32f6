"""Processes that train together: each has a copy of the model and takes a part of every step.

The first one decides and records: it announces what comes next, gets the sum of all gradients,
makes the optimiser's step and hands out the new weights, so that all copies are equal bit for bit.
The others (:mod:`training.execution.follower`) do what is announced.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from training.data.encode import Example

if TYPE_CHECKING:
    import torch

Kind = Literal["begin", "step", "validate", "end"]


class Order(NamedTuple):
    """What all do next. ``step`` counts from 0; ``scale`` is what a loss is multiplied with.

    ``begin``: the first gives all its weights, which may be those of a checkpoint.
    """

    kind: Kind
    step: int = 0
    scale: float = 1.0


class Group:
    """A group of one, in which nothing is to be said; the parent of those that have others."""

    rank = 0
    size = 1
    local_size = 1  # of them on this machine

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def announce(self, _order: Order) -> None:
        """The first says what comes next."""

    def receive(self) -> Order:
        """What the first has announced; waits for it. Alone there is never anything."""
        return Order("end")

    def add_up(self, _parameters: Sequence[torch.nn.Parameter], nll: float) -> float:
        """The first gets the sum of all gradients, in ``grad``, and that of ``nll``."""
        return nll

    def spread(self, _parameters: Sequence[torch.nn.Parameter]) -> None:
        """All get the first's values."""

    def total(self, *values: float) -> list[float]:
        """The sum of each of ``values`` over all, for the first."""
        return list(values)


ALONE = Group()


def part_of(examples: Sequence[Example], rank: int, size: int) -> list[Example]:
    """The part of ``examples`` for process ``rank`` of ``size``: about as many tokens for each.

    They are dealt out by falling length, to and fro; each keeps the order that they had.
    """
    by_length = sorted(range(len(examples)), key=lambda at: (-len(examples[at].ids), at))
    dealt = [*range(size), *reversed(range(size))]
    mine = (at for place, at in enumerate(by_length) if dealt[place % (2 * size)] == rank)
    return [examples[at] for at in sorted(mine)]
