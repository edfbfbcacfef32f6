"""A run as it goes: what its events come to, and how long it will take."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from training.runs import Event, EventReader, Run, RunStatus
from training.runs.curve import Curve

PACE_EVENTS = 50  # the last so many train events tell the pace
SPARK_WIDTH = 40
WARNINGS = 3
_BARS = "▁▂▃▄▅▆▇█"


class LiveRun:
    """What is known of a run after all events so far; each :meth:`add` costs what is new."""

    def __init__(self, status: RunStatus) -> None:
        self.status = status
        self.train: Event | None = None
        self.evaluation: Event | None = None
        self.checkpoint: Event | None = None
        self.warnings: deque[str] = deque(maxlen=WARNINGS)
        self.loss = Curve(SPARK_WIDTH)
        self._pace: deque[tuple[float, int]] = deque(maxlen=PACE_EVENTS)

    def add(self, events: Iterable[Event]) -> None:
        for event in events:
            if event.state == "running":  # later steps are made again, at a new pace
                self.loss.drop_after(event.step)
                self._pace.clear()
                self._pace.append((event.time, event.step))
            elif event.kind == "train":
                self.train = event
                self._pace.append((event.time, event.step))
                if event.loss is not None:
                    self.loss.extend([(event.step, event.loss)])
            elif event.kind == "evaluation":
                self.evaluation = event
            elif event.kind == "checkpoint":
                self.checkpoint = event
            elif event.kind == "warning" and event.message:
                self.warnings.append(event.message)

    @property
    def step(self) -> int:
        return max(self.status.step, self.train.step if self.train else 0)

    @property
    def remaining_s(self) -> float | None:
        """Seconds to the end at the pace of late, validation included; ``None``: not known yet."""
        if len(self._pace) < 2:  # noqa: PLR2004 - a pace needs two points
            return None
        (began_s, first), (ended_s, last) = self._pace[0], self._pace[-1]
        if last <= first or ended_s <= began_s:
            return None
        return (self.status.total_steps - self.step) * (ended_s - began_s) / (last - first)


def follow(run: Run, wait: Callable[[], None]) -> Iterator[tuple[RunStatus, list[Event]]]:
    """The run's status and what is new, again and again until it has ended and all is told."""
    reader = EventReader(run.events_path, Event)
    while True:
        status = run.status()  # first: what was written before its end is read after it
        yield status, reader.read()
        if not status.is_active:
            return
        wait()


def sparkline(curve: Curve) -> str:
    """The curve in one line of blocks, from its least to its greatest value."""
    values = [(bucket.low + bucket.high) / 2 for bucket in curve.buckets()]
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def duration(seconds: float) -> str:
    """As a clock shows it: 1:02:03, with days before it where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    clock = f"{hours}:{minutes:02}:{rest:02}"
    return f"{days} d {clock}" if days else clock


def measured(value: float | None, form: str) -> str:
    """A figure of an event; JSON, in which events are written, has no number that is not finite."""
    return "not finite" if value is None else format(value, form)
