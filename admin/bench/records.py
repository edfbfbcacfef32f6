"""``bench records``: how soon a long run's curves can be shown, and what an update costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from admin.bench.report import machine
from admin.bench.statistics import Spread
from training.runs import EventLog, History
from training.runs.reader import offset_after

CURVES = ("loss", "validation_nll")
EVALUATE_EVERY = 500
UPDATES = 1000  # of one event each


class RecordsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``bench records`` found.

    ``first_paint_ms``: from nothing to both curves in at most ``buckets`` buckets each, the read
    of the log included; ``first_paint_cpu_ms``: the processor's part, which another process's load
    does not lengthen. ``update_ms``: the same view again after one more event.
    ``return_ms``: finding the place of an event by its number. ``append_ms``: writing one event.
    """

    benchmark: str
    machine: dict[str, Any]
    steps: int
    rounds: int
    log_bytes: int
    buckets: int
    first_paint_ms: Spread
    first_paint_cpu_ms: Spread
    update_ms: Spread
    return_ms: Spread
    append_ms: Spread

    columns: ClassVar[tuple[str, ...]] = ("records", "median (least to most)")

    def rows(self) -> list[tuple[str, str]]:
        """The figures for a table."""
        timings = {
            "first paint": self.first_paint_ms,
            "of it on the processor": self.first_paint_cpu_ms,
            "update after one event": self.update_ms,
            "finding an event by number": self.return_ms,
            "writing an event": self.append_ms,
        }
        return [
            ("steps, each with an event", f"{self.steps:,}"),
            ("size of the log", f"{self.log_bytes / 1e6:.1f} MB"),
            *((f"{name}, ms", one.shown(3)) for name, one in timings.items()),
        ]


def measure_records(steps: int, rounds: int, buckets: int) -> RecordsReport:
    """Write the record of a run of ``steps`` steps, and read it ``rounds`` times."""
    with tempfile.TemporaryDirectory(prefix="lccc-bench-") as place:
        path = Path(place) / "events.jsonl"
        log = EventLog(path)
        appended = [_step(log, step) for step in range(1, steps + 1)]
        size = path.stat().st_size
        first = [_painted(path, buckets) for _ in range(rounds)]
        history = History(path, CURVES, limit=buckets)
        _paint(history)
        updates = []
        for extra in range(1, UPDATES + 1):
            _step(log, steps + extra)
            updates.append(_timed(_paint, history))
        every = range(1, steps, max(1, steps // UPDATES))
        found = [_timed(offset_after, path, seq) for seq in every]
        log.close()
    return RecordsReport(
        benchmark="records",
        machine=machine(),
        steps=steps,
        rounds=rounds,
        log_bytes=size,
        buckets=buckets,
        first_paint_ms=Spread.of([wall for wall, _ in first]),
        first_paint_cpu_ms=Spread.of([cpu for _, cpu in first]),
        update_ms=Spread.of(updates),
        return_ms=Spread.of(found),
        append_ms=Spread.of(appended),
    )


def _step(log: EventLog, step: int) -> float:
    """Write what a training writes of one step; the milliseconds that its train event took."""
    loss = 1.0 + 3.0 / (1.0 + step / 1000) + (step * 7919 % 1000) / 5000
    taken = _timed(
        log.append,
        "train",
        step,
        epoch=step / 12345,
        loss=loss,
        learning_rate=2e-4 / 3,
        gradient_norm=loss / 7,
        tokens_per_s=1000 / loss,
        dialogues_per_s=30 / loss,
    )
    if step % EVALUATE_EVERY == 0:
        log.append("evaluation", step, validation_nll=loss, validation_nll_per_character=loss / 2)
        log.append("checkpoint", step, path=f"checkpoints/step-{step}")
    return taken


def _paint(history: History) -> None:
    history.refresh()
    for curve in history.curves.values():
        curve.buckets()


def _painted(path: Path, buckets: int) -> tuple[float, float]:
    """Milliseconds of a first view: on the clock, and on the processor."""
    cpu_s = time.process_time()
    wall_ms = _timed(lambda: _paint(History(path, CURVES, limit=buckets)))
    return wall_ms, (time.process_time() - cpu_s) * 1000


def _timed(action: Callable[..., object], *arguments: Any, **named: Any) -> float:
    started = time.perf_counter()
    action(*arguments, **named)
    return (time.perf_counter() - started) * 1000
