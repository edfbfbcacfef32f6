"""A stream of the GPU's work, and how long it worked on it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


class Stream:
    """Work that is launched within :meth:`using` is computed in order; on a CPU, at once.

    ``busy_s``: how long the GPU worked, as far as it was told; ``None`` where nobody counts.
    """

    def __init__(self, device: torch.device) -> None:
        self._own = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.busy_s = None if self._own is None else 0.0

    def using(self) -> AbstractContextManager[object]:
        return nullcontext() if self._own is None else torch.cuda.stream(self._own)

    def mark(self) -> torch.cuda.Event | None:
        """Here in the line of work."""
        if self._own is None:
            return None
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def note(self, begun: torch.cuda.Event | None, ended: torch.cuda.Event | None) -> None:
        """Wait for what lies between two marks, and count it."""
        if begun is not None and ended is not None and self.busy_s is not None:
            ended.synchronize()
            self.busy_s += begun.elapsed_time(ended) / 1000
