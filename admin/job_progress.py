"""How far a job is: a small file in its directory, which is replaced again and again.

Only a process that the server started writes one (``admin.job``); what reads it is
``server.console.jobs``. It is of no use after a crash, so nothing waits for the disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from training.stages import Stage

PROGRESS = "progress"
EVERY_S = 0.2  # more often than anyone looks

_tell: ContextVar[Callable[[Stage], None] | None] = ContextVar("tell", default=None)


@contextmanager
def progress_in(directory: Path) -> Iterator[None]:
    """Within this, :func:`tell` writes to the job's ``directory``."""
    token = _tell.set(_Writer(directory / PROGRESS))
    try:
        yield
    finally:
        _tell.reset(token)


def tell(stage: Stage) -> None:
    """Say how far it is, where somebody wants to know."""
    if (heard := _tell.get()) is not None:
        heard(stage)


class _Writer:
    """Writes what begins and what ends, and the rest now and then."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: Stage | None = None
        self._written_s = float("-inf")

    def __call__(self, stage: Stage) -> None:
        now, last = time.monotonic(), self._last
        is_new = last is None or (last.stage, last.subject) != (stage.stage, stage.subject)
        is_whole = stage.done == stage.total
        if not is_new and not is_whole and now - self._written_s < EVERY_S:
            return
        self._last, self._written_s = stage, now
        written = self._path.with_name(f".{self._path.name}")
        with suppress(OSError):  # a full disk is for the command itself to tell of
            written.write_bytes(msgspec.json.encode(stage))
            written.replace(self._path)
