"""A run as it goes: pace, curve in a line, and what a resumption changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from admin.records.live import LiveRun, duration, follow, sparkline
from tests.records import make_run, measure, status
from training.runs import Event, Run
from training.runs.curve import Curve


def events(*described: tuple[str, int, float, dict[str, Any]]) -> list[Event]:
    """Events by (kind, step, time, other fields)."""
    return [
        Event(seq=number, kind=kind, step=step, time=time, **values)  # type: ignore[arg-type]
        for number, (kind, step, time, values) in enumerate(described, start=1)
    ]


def test_the_time_that_is_left_follows_the_pace() -> None:
    """Ten steps in twenty seconds, ninety to go; pauses for validation count."""
    live = LiveRun(status(state="running", total_steps=100, step=10))
    live.add(events(("status", 0, 100.0, {"state": "running"})))
    assert live.remaining_s is None

    live.add(
        events(
            ("train", 5, 105.0, {"loss": 2.0}),
            ("evaluation", 5, 115.0, {"validation_nll": 2.0}),
            ("train", 10, 120.0, {"loss": 1.0}),
        )
    )

    assert live.remaining_s == pytest.approx(180.0)


def test_the_time_between_stop_and_resumption_is_no_part_of_the_pace() -> None:
    """And steps that are made again are not counted twice."""
    live = LiveRun(status(state="running", total_steps=100, step=6))
    live.add(
        events(
            ("status", 0, 0.0, {"state": "running"}),
            ("train", 8, 8.0, {"loss": 3.0}),
            ("status", 5, 5000.0, {"state": "running"}),
            ("train", 6, 5002.0, {"loss": 2.0}),
        )
    )

    assert live.remaining_s == pytest.approx(188.0)
    assert live.loss.steps == [6]


def test_the_newest_of_each_is_kept() -> None:
    """And the last three warnings."""
    live = LiveRun(status())
    live.add(
        events(
            *(("warning", step, 1.0, {"message": f"w{step}"}) for step in range(5)),
            ("evaluation", 4, 1.0, {"validation_nll": 2.0}),
            ("checkpoint", 4, 1.0, {"path": "checkpoints/step-4"}),
        )
    )

    assert list(live.warnings) == ["w2", "w3", "w4"]
    assert live.evaluation is not None
    assert live.checkpoint is not None
    assert live.checkpoint.step == 4


def test_a_sparkline_goes_from_the_least_to_the_greatest() -> None:
    """A flat curve is a flat line, and no curve is nothing."""
    curve = Curve(8)
    assert sparkline(curve) == ""
    curve.extend([(1, 2.0), (2, 2.0)])
    assert sparkline(curve) == "▁▁"
    curve.extend([(3, 9.0)])
    assert sparkline(curve) == "▁▁█"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (3723, "1:02:03"), (90061, "1 d 1:01:01")],
)
def test_a_duration_reads_like_a_clock(seconds: float, shown: str) -> None:
    """With days where there are any."""
    assert duration(seconds) == shown


def test_following_ends_with_the_run_and_misses_nothing(tmp_path: Path) -> None:
    """What is written between the last look and the end is told too."""
    run = make_run(tmp_path, state="running")
    looks = 0

    def wait() -> None:
        nonlocal looks
        looks += 1
        measure(run, 1, first=looks)
        if looks == 3:
            run.write_status(status(id=run.id, state="completed"))

    with run.held():
        seen = list(follow(Run(run.directory), wait))

    told = [event.step for _, events in seen for event in events if event.kind == "train"]
    assert told == [1, 2, 3]
    assert [now.state for now, _ in seen] == ["running"] * 3 + ["completed"]
