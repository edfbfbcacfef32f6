"""One process conducts a sweep: a lock that its present trial inherits.

A trial outlives a conductor that was killed, and nobody else begins as long as it runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.storage import is_in_use, locks_alone
from training.errors import SweepBusy

LOCK = "lock"


@contextmanager
def conducting(directory: Path) -> Iterator[int]:
    """Be the one that conducts the sweep in ``directory``; yields the handle to be inherited.

    Raises:
        SweepBusy: another process is.
    """
    handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not locks_alone(handle):
            pid = os.pread(handle, 32, 0).decode(errors="replace")
            raise SweepBusy(directory.name, pid)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield handle
    finally:
        os.close(handle)


def is_conducted(directory: Path) -> bool:
    """Whether a living process conducts the sweep, or runs one of its trials."""
    try:
        return is_in_use(directory / LOCK)
    except FileNotFoundError:
        return False
