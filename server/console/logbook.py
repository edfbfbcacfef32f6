"""The last lines that this process logged, for the console: numbered, in memory, and bounded."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from server.wire.logs import Level, LogLine, LogLines

MOST = 2000
LONGEST = 16 << 10  # characters of a line, a traceback included
# Those whose ordinary news the console shows, whatever is written to stderr.
OURS = ("server", "adapters", "training")


class Logbook(logging.Handler):
    """Takes in every record of at least INFO, as long as it is :meth:`open <opened>`."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[LogLine] = deque(maxlen=MOST)
        self._seq = 0
        self._writing = threading.Lock()
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record; a bug in how it is written is logging's business."""
        try:
            text = self.format(record)[:LONGEST]
        except Exception:  # noqa: BLE001 # as logging has it: no log line breaks its program
            self.handleError(record)
            return
        with self._writing:
            self._seq += 1
            self._lines.append(
                LogLine(
                    seq=self._seq,
                    time=record.created,
                    level=_level(record.levelno),
                    logger=record.name,
                    text=text,
                )
            )

    def after(self, seq: int) -> LogLines:
        """The lines with higher numbers, as far as they are still here."""
        with self._writing:
            first = self._lines[0].seq if self._lines else self._seq + 1
            return LogLines(data=[line for line in self._lines if line.seq > seq], first=first)

    @contextmanager
    def opened(self) -> Iterator[Logbook]:
        """Listen to all loggers, and have ours tell their ordinary news, until the end."""
        root = logging.getLogger()
        before = {name: logging.getLogger(name).level for name in OURS}
        for name in OURS:
            ours = logging.getLogger(name)
            if ours.getEffectiveLevel() > logging.INFO:
                ours.setLevel(logging.INFO)
        root.addHandler(self)
        try:
            yield self
        finally:
            root.removeHandler(self)
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)


def _level(number: int) -> Level:
    names: list[tuple[int, Any]] = [
        (logging.ERROR, "error"),
        (logging.WARNING, "warning"),
        (logging.INFO, "info"),
    ]
    return next((name for least, name in names if number >= least), "debug")
