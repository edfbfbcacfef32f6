"""The bound on open generations, and the advice that goes with a refusal."""

from __future__ import annotations

import pytest

from server.engine.admission import Admission
from server.engine.errors import QueueFull


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def admission_of(
    max_running: int, max_waiting: int, clock: Clock | None = None, max_waiting_tokens: int = 99
) -> Admission:
    return Admission(
        max_running=max_running,
        max_waiting=max_waiting,
        max_waiting_tokens=max_waiting_tokens,
        clock=clock or Clock(),
    )


def advice(admission: Admission) -> float:
    """When to come back, as a refusal says it; ``admission`` must be full."""
    with pytest.raises(QueueFull) as refused:
        admission.enter(1)
    return refused.value.retry_after_s


def test_rows_and_line_are_counted_together() -> None:
    """Running and waiting are bounded as one; whoever leaves makes room."""
    admission = admission_of(1, 1)
    admission.enter(1)
    admission.enter(1)
    with pytest.raises(QueueFull) as refused:
        admission.enter(1)
    assert refused.value.waiting == 1
    admission.leave()
    admission.enter(1)
    assert admission.open == 2


def test_the_advice_grows_with_what_was_measured() -> None:
    """Replies that take ten seconds each, with a line of three, mean a long wait."""
    clock = Clock()
    admission = admission_of(1, 3, clock)
    for _ in range(4):
        admission.enter(1)
    for _ in range(3):
        clock.now += 10
        admission.leave()
        admission.enter(1)
    assert advice(admission) == pytest.approx(40)


def test_idle_time_is_no_measurement() -> None:
    """A quiet night before the rush does not count as a slow reply."""
    clock = Clock()
    admission = admission_of(1, 0, clock)
    admission.enter(1)
    clock.now += 3
    admission.leave()
    clock.now += 30_000
    admission.enter(1)
    clock.now += 3
    admission.leave()
    admission.enter(1)
    assert advice(admission) == pytest.approx(3)


def test_the_advice_is_bounded() -> None:
    """At least a second, at most a minute: clients obey it."""
    clock = Clock()
    admission = admission_of(1, 0, clock)
    admission.enter(1)
    assert advice(admission) == 1
    clock.now += 5000
    admission.leave()
    admission.enter(1)
    assert advice(admission) == 60


def test_the_tokens_that_wait_are_bounded() -> None:
    """Few long prompts are as much work as many short ones; what has begun waits no longer."""
    admission = admission_of(4, 4, max_waiting_tokens=100)
    admission.enter(60)
    with pytest.raises(QueueFull, match="60 tokens") as refused:
        admission.enter(41)
    assert refused.value.waiting_tokens == 60
    admission.enter(40)
    admission.begin(60)
    admission.enter(60)
    assert (admission.open, admission.waiting_tokens) == (3, 100)


def test_a_prompt_longer_than_the_bound_is_taken_alone() -> None:
    """Else it could never be served."""
    admission = admission_of(4, 4, max_waiting_tokens=100)
    admission.enter(500)
    with pytest.raises(QueueFull):
        admission.enter(1)
    admission.begin(500)
    admission.enter(1)
