"""The order of dialogues: which ones make up an optimiser step, from seed and step alone."""

from __future__ import annotations

import math
import random
from array import array


class StepOrder:
    """Shuffles ``dialogues`` indices anew for each epoch and cuts them into steps of ``size``.

    The order of the last epoch asked for is kept, in four bytes a dialogue: shuffling millions
    takes seconds.
    """

    def __init__(self, dialogues: int, size: int, seed: int) -> None:
        self._dialogues = dialogues
        self._size = size
        self._seed = seed
        self._kept: tuple[int, array[int]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self._dialogues / self._size)

    def step(self, step: int) -> list[int]:
        """The dialogues of step ``step`` (from 0); the last step of an epoch may have fewer."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._kept is None or self._kept[0] != epoch:
            order = array("I", range(self._dialogues))
            random.Random(f"{self._seed}-{epoch}").shuffle(order)  # noqa: S311 # an order, no secret
            self._kept = (epoch, order)
        return self._kept[1][position * self._size : (position + 1) * self._size].tolist()
