"""The bound on open generations, and the advice that goes with a refusal."""

from __future__ import annotations

import pytest

from server.engine.admission import Admission
from server.engine.errors import QueueFull


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rows_and_line_are_counted_together() -> None:
    """Running and waiting are bounded as one; whoever leaves makes room."""
    admission = Admission(max_running=1, max_waiting=1)
    admission.enter()
    admission.enter()
    with pytest.raises(QueueFull) as refused:
        admission.enter()
    assert refused.value.waiting == 1
    admission.leave()
    admission.enter()
    assert admission.open == 2


def test_the_advice_grows_with_what_was_measured() -> None:
    """Replies that take ten seconds each, with a line of three, mean a long wait."""
    clock = Clock()
    admission = Admission(max_running=1, max_waiting=3, clock=clock)
    for _ in range(4):
        admission.enter()
    for _ in range(3):
        clock.now += 10
        admission.leave()
        admission.enter()
    assert admission.full().retry_after_s == pytest.approx(40)


def test_idle_time_is_no_measurement() -> None:
    """A quiet night before the rush does not count as a slow reply."""
    clock = Clock()
    admission = Admission(max_running=1, max_waiting=0, clock=clock)
    admission.enter()
    clock.now += 3
    admission.leave()
    clock.now += 30_000
    admission.enter()
    clock.now += 3
    admission.leave()
    assert admission.full().retry_after_s == pytest.approx(3)


def test_the_advice_is_bounded() -> None:
    """At least a second, at most a minute: clients obey it."""
    clock = Clock()
    admission = Admission(max_running=1, max_waiting=9, clock=clock)
    assert admission.full().retry_after_s == 1
    admission.enter()
    clock.now += 5000
    admission.leave()
    assert admission.full().retry_after_s == 60
