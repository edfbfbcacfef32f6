"""The reading side of a run's event log: what is new since the last look, also while it grows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from training.runs.event import Event

Row = TypeVar("Row")
_BLOCK = 1 << 12


class EventReader(Generic[Row]):
    """Reads ``path`` from byte ``offset`` on; each :meth:`read` costs what has been added.

    ``row`` is :class:`Event`, or a struct with some of its fields, which is read faster.
    ``unreadable`` counts complete lines that are no event (damage, or a newer version's kinds).
    """

    def __init__(self, path: Path, row: type[Row], offset: int = 0) -> None:
        self.offset = offset
        self.unreadable = 0
        self._path = path
        self._decoder = msgspec.json.Decoder(row)

    def read(self) -> list[Row]:
        """The complete events since the last call; a line that is being written comes later."""
        try:
            with self._path.open("rb") as file:
                file.seek(self.offset)
                found = file.read()
        except FileNotFoundError:
            return []
        whole = found[: found.rfind(b"\n") + 1]
        self.offset += len(whole)
        try:
            return self._decoder.decode_lines(whole)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self._readable(whole)

    def _readable(self, lines: bytes) -> list[Row]:
        events = []
        for line in lines.splitlines():
            try:
                events.append(self._decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.unreadable += 1
        return events


def offset_after(path: Path, seq: int) -> int:
    """The byte where the event after number ``seq`` begins or will begin, found by bisection.

    For a reader that comes back with the number of the last event it has seen.
    """

    class Numbered(msgspec.Struct):
        seq: int

    try:
        file = path.open("rb")
    except FileNotFoundError:
        return 0
    with file:
        low, high = 0, file.seek(0, os.SEEK_END)
        while low < high:  # the answer is the start of a line in [low, high], or the end
            middle = (low + high) // 2
            start = _line_start(file.fileno(), middle)
            file.seek(start)
            line = file.readline()
            try:
                number = msgspec.json.decode(line, type=Numbered).seq
            except (msgspec.DecodeError, UnicodeDecodeError):
                number = seq + 1  # torn or damaged: what is after it is read, not skipped
            if number <= seq:
                low = start + len(line)
            else:
                high = start
        return low


def _line_start(file: int, position: int) -> int:
    """Where the line that holds byte ``position`` begins."""
    while position:
        length = min(_BLOCK, position)
        cut = os.pread(file, length, position - length).rfind(b"\n")
        if cut >= 0:
            return position - length + cut + 1
        position -= length
    return 0


def read_events(path: Path) -> list[Event]:
    """All complete events of a log, oldest first."""
    return EventReader(path, Event).read()
