"""Waiting for what another thread or process will do; only a failing test waits long."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 20.0


def eventually(claim: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Whether ``claim`` comes true while we are patient."""
    end_s = time.monotonic() + patience_s
    while not claim() and time.monotonic() < end_s:
        time.sleep(0.01)
    return claim()
