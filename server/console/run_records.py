"""The records of trainings as the console asks for them: lists, details, and curves in few points.

What a log holds is read once and kept, so that a further question costs what is new.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import msgspec

from server.console.recipes import changed_fields
from server.wire.runs import (
    CheckpointCard,
    LogText,
    Point,
    RunCard,
    RunDetail,
    RunMetrics,
    SampleCard,
    WarningCard,
)
from training.runs import Event, EventReader, History, Run, RunStore
from training.runs.checkpoints import newest_first, step_of
from training.runs.curve import Curve
from training.runs.reader import offset_after

QUANTITIES = (
    "loss",
    "validation_nll",
    "validation_nll_per_character",
    "learning_rate",
    "gradient_norm",
    "tokens_per_s",
    "memory_bytes",
)
MOST_HISTORIES = 16
MOST_SAMPLES = 60
MOST_WARNINGS = 100
_LAST = 2**62


class RunRecords:
    """The runs below ``root``. May be asked from several threads."""

    def __init__(self, root: Path) -> None:
        self._store = RunStore(root)
        self._histories: OrderedDict[str, tuple[threading.Lock, History]] = OrderedDict()
        self._taking = threading.Lock()

    def list(self) -> list[RunCard]:
        """Every run, newest first."""
        return [card(run) for run in self._store.all()]

    def get(self, run_id: str) -> Run:
        """The run called ``run_id``.

        Raises:
            RunNotFound: there is none.
        """
        return self._store.get(run_id)

    def detail(self, run_id: str) -> RunDetail:
        """Everything about a run but its curves.

        Raises:
            RunNotFound: there is none, or its record cannot be read.
        """
        run = self._store.get(run_id)
        found = card(run)
        recipe = _recipe(run)
        events = run.events()
        return RunDetail(
            run=found,
            recipe=recipe,
            changed=changed_fields(recipe),
            checkpoints=_checkpoints(run, found.best_step),
            samples=_samples(events),
            warnings=[
                WarningCard(step=one.step, time=one.time, message=one.message or "")
                for one in events
                if one.kind == "warning"
            ][-MOST_WARNINGS:],
            has_adapter=(run.adapter / "adapter_config.json").is_file(),
        )

    def metrics(
        self, run_id: str, points: int, first_step: int | None = None, last_step: int | None = None
    ) -> RunMetrics:
        """The curves of a run between two steps, each in at most ``points`` points.

        Raises:
            RunNotFound: there is none.
        """
        run = self._store.get(run_id)
        lock, history = self._history(run)
        with lock:
            history.refresh()
            first, last = first_step or 0, _LAST if last_step is None else last_step
            curves = {
                name: _points(curve, first, last, points) for name, curve in history.curves.items()
            }
            return RunMetrics(run=run.id, seq=history.seq, dropped_after=None, curves=curves)

    def metrics_after(self, run_id: str, after: int, points: int) -> RunMetrics:
        """What was measured since event number ``after``.

        Raises:
            RunNotFound: there is none.
        """
        run = self._store.get(run_id)
        path = run.events_path
        events = EventReader(path, Event, offset_after(path, after)).read()
        again = [event.step for event in events if event.state == "running"]
        curves = {name: Curve() for name in QUANTITIES}
        for event in events:
            for name, curve in curves.items():
                if event.state == "running":
                    curve.drop_after(event.step)
                if (value := getattr(event, name)) is not None:
                    curve.extend([(event.step, value)])
        return RunMetrics(
            run=run.id,
            seq=events[-1].seq if events else after,
            dropped_after=min(again, default=None),
            curves={name: _points(curve, 0, _LAST, points) for name, curve in curves.items()},
        )

    def _history(self, run: Run) -> tuple[threading.Lock, History]:
        """The kept history of a run; a run that was removed and made again has another."""
        key = f"{run.id} {run.directory.stat().st_ino}"
        with self._taking:
            if key not in self._histories:
                self._histories[key] = (threading.Lock(), History(run.events_path, QUANTITIES))
            self._histories.move_to_end(key)
            while len(self._histories) > MOST_HISTORIES:
                self._histories.popitem(last=False)
            return self._histories[key]


def card(run: Run) -> RunCard:
    """A run's status.

    Raises:
        RunNotFound: it cannot be read.
    """
    found = msgspec.convert(run.status(), RunCard, from_attributes=True)
    is_asked = found.state == "running" and run.is_asked_to_stop()
    return msgspec.structs.replace(found, id=run.id, is_asked_to_stop=is_asked)


def log_text(path: Path, start: int, limit: int = 256 << 10) -> LogText:
    """Whole lines of a growing log from byte ``start`` on; a negative one counts from the end."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            begin = max(0, size + start) if start < 0 else min(start, size)
            file.seek(begin)
            found = file.read(limit)
    except FileNotFoundError:
        return LogText(text="", next=0, size=0)
    if start < 0 and begin:  # from the middle of a line
        cut = found.find(b"\n") + 1
        found, begin = found[cut:], begin + cut
    whole = found[: found.rfind(b"\n") + 1] or (found if len(found) == limit else b"")
    return LogText(text=whole.decode("utf-8", "replace"), next=begin + len(whole), size=size)


def _points(curve: Curve, first: int, last: int, limit: int) -> list[Point]:
    return [
        Point(one.first_step, one.last_step, one.low, one.high, one.last)
        for one in curve.between(first, last, limit)
    ]


def _recipe(run: Run) -> dict[str, dict[str, Any]]:
    try:
        return msgspec.toml.decode(run.recipe_path.read_bytes(), type=dict[str, dict[str, Any]])
    except (OSError, ValueError):
        return {}


def _checkpoints(run: Run, best_step: int | None) -> list[CheckpointCard]:
    found = []
    for path in newest_first(run.checkpoints):
        try:
            size = sum(file.stat().st_size for file in path.iterdir())
            written = path.stat().st_mtime
        except OSError:  # pruned just now
            continue
        step = step_of(path)
        found.append(
            CheckpointCard(step=step, written=written, size_bytes=size, is_best=step == best_step)
        )
    return found


def _samples(events: list[Event]) -> list[SampleCard]:
    """The newest first."""
    found = [
        SampleCard(step=event.step, prompt=one.text, reply=one.reply, expected=one.reference)
        for event in reversed(events)
        for one in event.replies or ()
    ]
    return found[:MOST_SAMPLES]
