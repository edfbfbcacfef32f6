"""What a log says when the steps that a resumed run made again are counted once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec

from training.runs.curve import Curve
from training.runs.event import Event, RunState
from training.runs.reader import EventReader

LASTING = ("status", "warning")  # stay whatever is made again


def standing(events: Iterable[Event]) -> list[Event]:
    """``events`` without the measurements and checkpoints that a resumption has superseded."""
    kept: list[Event] = []
    for event in events:
        if event.state == "running":
            kept = [one for one in kept if one.kind in LASTING or one.step <= event.step]
        kept.append(event)
    return kept


class History:
    """The curves of a log that may be growing, by the names of :class:`Event`'s fields.

    ``limit`` is the most buckets in a view of a curve; ``seq`` numbers the last event taken in.
    """

    def __init__(
        self, path: Path, names: Sequence[str] = ("loss", "validation_nll"), limit: int = 1000
    ) -> None:
        self.seq = 0
        self.curves = {name: Curve(limit) for name in names}
        self._values = {name: attrgetter(name) for name in names}
        self._reader: EventReader[Any] = EventReader(path, _row(names))

    @property
    def unreadable(self) -> int:
        """How many complete lines were no event."""
        return self._reader.unreadable

    def refresh(self) -> bool:
        """Take in what is new, at the cost of what is new; whether there was anything."""
        rows = self._reader.read()
        start = 0
        for index, row in enumerate(rows):
            if row.state == "running":
                self._extend(rows[start:index])
                for curve in self.curves.values():
                    curve.drop_after(row.step)
                start = index
        self._extend(rows[start:])
        self.seq = rows[-1].seq if rows else self.seq
        return bool(rows)

    def _extend(self, rows: Sequence[Any]) -> None:
        for name, curve in self.curves.items():
            value_of = self._values[name]
            curve.extend((row.step, value) for row in rows if (value := value_of(row)) is not None)


def _row(names: Sequence[str]) -> type[msgspec.Struct]:
    """Events with these fields alone: what is not looked at is not parsed."""
    curves = [(name, float | None, None) for name in names]
    fields: list[Any] = [("seq", int), ("step", int), ("state", RunState | None, None), *curves]
    return msgspec.defstruct("Row", fields, frozen=True, gc=False)
