"""Which dialogues are held out: a draw by content, the same in any order and on any machine."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import msgspec
import numpy as np

from training.errors import DataError

SPLITS = ("train", "validation", "test")

# From this many dialogues on, at least one is held out for validation.
ENOUGH_TO_HOLD_OUT = 20


class Shares(msgspec.Struct, frozen=True):
    """The shares of a draw, as fractions of the unit interval: validation first, test last."""

    validation: float
    test: float

    def __post_init__(self) -> None:
        if not (self.validation >= 0 and self.test >= 0 and self.validation + self.test < 1):
            raise DataError(
                f"the shares of validation ({self.validation:g}) and test ({self.test:g}) "
                "must not be negative and must leave something to train on"
            )

    def split_of(self, position: float) -> str:
        """The split of a dialogue whose :func:`position` is given."""
        if position < self.validation:
            return "validation"
        return "test" if position >= 1 - self.test else "train"

    def codes_of(self, positions: np.ndarray) -> np.ndarray:
        """As :meth:`split_of` for many positions, as indices into ``SPLITS``."""
        later = np.where(positions >= 1 - self.test, 2, 0)
        return np.where(positions < self.validation, 1, later).astype(np.int8)

    def holding_out_one(self, positions: Sequence[float] | np.ndarray) -> Shares:
        """These shares, widened if they would leave a fair number of dialogues unvalidated.

        Unchanged where validation is not wanted (share 0) or nothing would be left to train on.
        """
        if self.validation == 0 or len(positions) < ENOUGH_TO_HOLD_OUT:
            return self
        lowest = float(min(positions))
        if self.split_of(lowest) != "train":
            return self
        if all(other == lowest or self.split_of(other) == "test" for other in positions):
            return self
        return msgspec.structs.replace(self, validation=math.nextafter(lowest, 1))


def position(utterances: Sequence[str], seed: int) -> float:
    """Where a dialogue lies in [0, 1): uniform, by its content and ``seed`` alone.

    Equal dialogues lie at the same place, so duplicates never straddle two splits.
    """
    content = msgspec.json.encode([seed, list(utterances)])
    return int.from_bytes(hashlib.sha256(content).digest()[:6]) / 2**48
