"""The writing side of a run's event log. One process at a time writes; any number read."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from training.runs.event import Event, Kind

_BLOCK = 1 << 16


class EventLog:
    """Appends events to ``path``, each whole or not at all.

    A log that a crash left with half a line is mended when it is opened; the numbers go on where
    they ended.

    Raises:
        OSError: it cannot be opened for writing.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._seq = _mend(self._file)

    def append(self, kind: Kind, step: int, **values: Any) -> Event:
        """Write one event with the next number and the present time.

        Raises:
            OSError: the disk is full, for example; no half line stays behind.
        """
        event = Event(seq=self._seq + 1, time=self._clock(), step=step, kind=kind, **values)
        line = msgspec.json.encode(event) + b"\n"
        size = os.fstat(self._file).st_size
        try:
            while line:
                line = line[os.write(self._file, line) :]
        except BaseException:  # an interrupt too: the next event must begin a line
            os.ftruncate(self._file, size)
            raise
        self._seq += 1
        return event

    def sync(self) -> None:
        """Wait until what was written would survive a power cut."""
        os.fsync(self._file)

    def close(self) -> None:
        os.close(self._file)


def _mend(file: int) -> int:
    """Cut off what is no whole event at the end; the number of the last one (0: there is none)."""
    end = os.fstat(file).st_size
    while end:
        start, line = _last_line(file, end)
        try:
            if line.endswith(b"\n"):
                return msgspec.json.decode(line, type=Event).seq
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        end = start
        os.ftruncate(file, end)
    return 0


def _last_line(file: int, end: int) -> tuple[int, bytes]:
    """Where the last line before ``end`` begins, and its bytes with what ends it."""
    held = b""
    start = end
    while start:
        length = min(_BLOCK, start)
        held = os.pread(file, length, start - length) + held
        start -= length
        cut = held.rfind(b"\n", 0, len(held) - 1)
        if cut >= 0:
            return start + cut + 1, held[cut + 1 :]
    return 0, held
