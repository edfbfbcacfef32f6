"""How a side talks to the benchmark: told to play a round on stdin, it answers on stdout.

A message is one line of JSON. Whatever libraries print goes to stderr instead.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TextIO

LOOK_EVERY_S = 0.005
LOOK_AT_FAMILY_EVERY_S = 0.2  # adding up shared memory takes milliseconds a process


class Playing:
    """The side's end of the two pipes. Make it before anything is printed."""

    def __init__(self, device: str = "cpu") -> None:
        self._answers: TextIO = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.device = device

    def ready(self, **facts: Any) -> None:
        """Everything is loaded; ``facts`` are for the report."""
        self.answer({"ready": facts})

    def next_round(self) -> int | None:
        """The number of the round that is to be played now; ``None``: no more."""
        line = sys.stdin.readline()
        return json.loads(line)["round"] if line else None

    def play_all(self, work: Callable[[int], None], **facts: Any) -> None:
        """Play every round that is to be played; ``work`` is given its number."""
        while (number := self.next_round()) is not None:
            self.play(partial(work, number), **facts)

    def play(self, work: Callable[[], None], **facts: Any) -> None:
        """Do the work of one round, and answer how long it took and what memory it held.

        ``facts`` are for the report.
        """
        measuring = Measuring(self.device)
        work()
        self.played(measuring, **facts)

    def played(self, measuring: Measuring, **facts: Any) -> None:
        """Answer what was measured of a round that is over."""
        self.answer(measuring.end() | {"facts": facts})

    def answer(self, message: dict[str, Any]) -> None:
        """Send ``message``: that all is loaded, or what was measured of a round that is over."""
        self._answers.write(json.dumps(message) + "\n")
        self._answers.flush()


class Measuring:
    """The time and the peak of memory from here to :meth:`end`.

    On a GPU the peak is what was allocated there, on a CPU the resident memory of the process,
    looked at every few milliseconds; what is free is given back before. With ``is_family`` time and
    memory are those of all processes that it starts too, which must have ended at the end; what
    several of them share in memory counts once (PSS).
    """

    def __init__(self, device: str, *, is_family: bool = False) -> None:
        self._is_family = is_family
        self._gpu = device if device.startswith("cuda") else None
        gc.collect()
        if self._gpu:
            import torch

            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats(self._gpu)
        else:
            with suppress(OSError, AttributeError):  # another C library
                ctypes.CDLL("libc.so.6").malloc_trim(0)
        self._peak = 0
        self._is_over = threading.Event()
        self._looking = threading.Thread(target=self._look, daemon=True)
        if not self._gpu:
            self._looking.start()
        self._began_s, self._began_cpu_s = time.perf_counter(), self._cpu_seconds()

    def end(self) -> dict[str, Any]:
        """Seconds on the clock, and on all processors together, and the peak in bytes."""
        if self._gpu:
            import torch

            torch.cuda.synchronize()
        seconds = time.perf_counter() - self._began_s
        cpu_seconds = self._cpu_seconds() - self._began_cpu_s
        if self._gpu:
            self._peak = torch.cuda.max_memory_allocated(self._gpu)
        else:
            self._is_over.set()
            self._looking.join()
        return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": self._peak}

    def _look(self) -> None:
        while not self._is_over.is_set():
            held = family_bytes() if self._is_family else resident_bytes()
            self._peak = max(self._peak, held)
            self._is_over.wait(LOOK_AT_FAMILY_EVERY_S if self._is_family else LOOK_EVERY_S)

    def _cpu_seconds(self) -> float:
        times = os.times()
        own = time.process_time()
        return own + times.children_user + times.children_system if self._is_family else own


def resident_bytes() -> int:
    """The memory that this process has in RAM."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def family_bytes() -> int:
    """The memory of this process and of all that it has started, shared memory counted once."""
    import psutil

    total = 0
    own = psutil.Process()
    for process in (own, *own.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended
            held = process.memory_full_info()
            total += int(getattr(held, "pss", held.rss))
    return total
