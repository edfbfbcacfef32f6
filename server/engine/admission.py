"""How many generations may be open at once, and when it is worth asking again."""

from __future__ import annotations

import time
from collections.abc import Callable

from server.engine.errors import QueueFull

# Weight of the newest gap between two ends in their running mean.
_NEWEST = 0.2
_LEAST_S, _MOST_S = 1.0, 60.0


class Admission:
    """Counts open generations: ``max_running`` run, ``max_waiting`` more may wait.

    The prompts that are not yet computed may have ``max_waiting_tokens`` together; one alone may
    have more.
    """

    def __init__(
        self,
        *,
        max_running: int,
        max_waiting: int,
        max_waiting_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_running = max_running
        self._max_open = max_running + max_waiting
        self._max_waiting_tokens = max_waiting_tokens
        self._clock = clock
        self._open = 0
        self._waiting_tokens = 0
        self._since = 0.0  # of the last end, or of the first entry after idleness
        self._mean_gap_s: float | None = None

    @property
    def open(self) -> int:
        return self._open

    @property
    def waiting_tokens(self) -> int:
        return self._waiting_tokens

    def enter(self, prompt_tokens: int) -> None:
        """Count one more, whose prompt is to be computed.

        Raises:
            QueueFull: as many wait as may, or as many tokens.
        """
        waiting = self._waiting_tokens
        too_many = waiting and waiting + prompt_tokens > self._max_waiting_tokens
        if too_many or self._open >= self._max_open:
            raise self._full()
        if not self._open:
            self._since = self._clock()
        self._open += 1
        self._waiting_tokens += prompt_tokens

    def begin(self, prompt_tokens: int) -> None:
        """One that entered with so many tokens waits for them no longer."""
        self._waiting_tokens -= prompt_tokens

    def leave(self) -> None:
        """Count one less; its end is one more measurement."""
        now = self._clock()
        gap_s = now - self._since
        mean_s = gap_s if self._mean_gap_s is None else self._mean_gap_s
        self._mean_gap_s = mean_s + _NEWEST * (gap_s - mean_s)
        self._since = now
        self._open -= 1

    def _full(self) -> QueueFull:
        """The refusal; a new one may try again when the present line will have moved up."""
        waiting = max(0, self._open - self._max_running)
        expected_s = (self._mean_gap_s or 0.0) * (waiting + 1)
        retry_after_s = min(max(expected_s, _LEAST_S), _MOST_S)
        return QueueFull(waiting, retry_after_s, self._waiting_tokens)
