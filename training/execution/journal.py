"""What a training says while it runs: to its record, and to whoever watches.

Each event goes to the event log first; status and log follow, and then the people. The record may
fail the training (a full disk), an audience never does.
"""

from __future__ import annotations

import os
import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from training.runs import Event, EventLog, Kind, Run, RunState, RunStatus
from training.trackers import Trackers

if TYPE_CHECKING:
    from training.planning.plan import Plan

HEARTBEAT_S = 1.0


class Progress(Protocol):
    """Whoever watches a training."""

    def began(self, run: Run, plan: Plan, step: int) -> None:
        """The model is loaded; ``step`` steps are already done (resumed)."""

    def event(self, event: Event) -> None:
        """Something was measured or saved, or is worth a warning."""

    def note(self, message: str) -> None:
        """A sentence for the person who watches."""


class Journal:
    """The one writer of a run's record, for as long as this process trains it.

    Raises:
        OSError: the record cannot be written.
    """

    def __init__(self, run: Run, status: RunStatus, progress: Progress) -> None:
        self.run = run
        self._progress = progress
        self._events = EventLog(run.events_path)
        self._trackers = Trackers({})
        self._status_written_s = 0.0
        self.status = msgspec.structs.replace(
            status, state="running", error=None, pid=os.getpid(), digest=None
        )
        self._write_status()

    def began(self, plan: Plan, step: int) -> None:
        """The model is there and the first step comes; later steps on record are made again."""
        self.status = msgspec.structs.replace(self.status, step=step)
        message = f"resumed at step {step}" if step else "started"
        self._events.append("status", step, state="running", message=message)
        self._write_status()
        self.run.log(message)
        with suppress(OSError):
            self._progress.began(self.run, plan, step)

    def report_to(self, trackers: Trackers) -> None:
        """From now on these are told too what is measured."""
        self._trackers = trackers

    def record(self, kind: Kind, step: int, **values: Any) -> None:
        """One event, by the fields of :class:`training.runs.Event`."""
        event = self._events.append(kind, step, **values)
        self.status = msgspec.structs.replace(self.status, step=step)
        self._write_status(at_most_each_s=HEARTBEAT_S)
        self.run.log(line(event))
        with suppress(OSError):
            self._progress.event(event)
        for warning in self._trackers.log(event):
            self.warn(warning)

    def best(self, step: int | None, nll: float | None) -> None:
        """Which step validated best, and with how many nats per token."""
        self.status = msgspec.structs.replace(self.status, best_step=step, validation_nll=nll)

    def alive(self, step: int) -> None:
        """A sign of life between events; it can wait for room on the disk."""
        self.status = msgspec.structs.replace(self.status, step=step)
        with suppress(OSError):
            self._write_status(at_most_each_s=HEARTBEAT_S)

    def warn(self, message: str) -> None:
        """Something that the record and the person should know; the training goes on."""
        self.record("warning", self.status.step, message=message)

    def note(self, message: str) -> None:
        """A sentence for the person alone; nobody to hear it is no reason to stop."""
        with suppress(OSError):
            self._progress.note(message)

    def sync(self) -> None:
        """Wait until the events so far would survive a power cut."""
        self._events.sync()

    def end(self, state: RunState, message: str | None = None, digest: str | None = None) -> None:
        """The last word. Of a training that broke off it is said as well as the disk allows."""
        broke_off = state not in ("completed", "stopped")
        error = message if broke_off else None
        self.status = msgspec.structs.replace(self.status, state=state, error=error, digest=digest)
        with suppress(OSError) if broke_off else nullcontext():
            self._events.append("status", self.status.step, state=state, message=message)
            self.sync()
        with suppress(OSError) if broke_off else nullcontext():
            self._write_status()
        with suppress(OSError):
            self.run.log(f"{state}: {message}" if message else state)
        self._trackers.close(state)

    def close(self) -> None:
        self._events.close()

    def _write_status(self, at_most_each_s: float = 0.0) -> None:
        now = time.monotonic()
        if now - self._status_written_s < at_most_each_s:
            return
        self._status_written_s = now
        self.status = msgspec.structs.replace(self.status, updated=time.time())
        self.run.write_status(self.status)


def line(event: Event) -> str:
    """An event as a line of the log."""
    values = msgspec.to_builtins(event)
    shown = (
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
        if name not in ("seq", "kind", "time", "replies")
    )
    return f"{event.kind}: {', '.join(shown)}"
