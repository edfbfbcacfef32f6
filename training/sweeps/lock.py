"""One process conducts a sweep: a lock that its present trial inherits.

A trial outlives a conductor that was killed, and nobody else begins as long as it runs.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.errors import SweepBusy

LOCK = "lock"
PROBES_S = 1.0  # readers look at the lock by taking it together, for a moment


@contextmanager
def conducting(directory: Path) -> Iterator[int]:
    """Be the one that conducts the sweep in ``directory``; yields the handle to be inherited.

    Raises:
        SweepBusy: another process is.
    """
    handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(handle, directory.name)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield handle
    finally:
        os.close(handle)


def is_conducted(directory: Path) -> bool:
    """Whether a living process conducts the sweep, or runs one of its trials."""
    try:
        handle = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def _take(handle: int, name: str) -> None:
    patience_ends_s = time.monotonic() + PROBES_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > patience_ends_s:
                pid = os.pread(handle, 32, 0).decode(errors="replace")
                raise SweepBusy(name, pid) from None
            time.sleep(0.01)
        else:
            return
