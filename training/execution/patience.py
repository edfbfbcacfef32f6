"""Early stopping: how long validation may go without getting better."""

from __future__ import annotations

import math
from collections.abc import Iterable


class Patience:
    """Runs out after ``validations`` in a row without a gain of over ``min_delta`` (0: never does).

    A loss is compared with that of the last gain, so that many small gains count together.
    """

    def __init__(self, validations: int, min_delta: float, losses: Iterable[float]) -> None:
        self._most = validations
        self._min_delta = min_delta
        self._best = math.inf
        self._waited = 0
        for loss in losses:
            self.add(loss)

    def add(self, loss: float) -> None:
        """One more validation, in nats per token."""
        if loss < self._best - self._min_delta:
            self._best, self._waited = loss, 0
        else:
            self._waited += 1

    @property
    def is_over(self) -> bool:
        return 0 < self._most <= self._waited

    @property
    def reason(self) -> str:
        """Why it is over."""
        return f"no better validation loss than {self._best:.4f} in {self._waited} validations"
