"""Work in processes: in order, not far ahead, and never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from training.data.workers import AHEAD, Workers


def slow_for_small(number: int) -> int:
    """Later tasks are done before earlier ones."""
    time.sleep(0.02 if number % 4 == 0 else 0)
    if number < 0:
        raise ValueError(str(number))
    return number * number


def report_and_hang(_: int) -> None:
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(600)


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_the_order_of_the_tasks(processes: int) -> None:
    """With one process and with more; tasks are taken no further ahead than it takes."""
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    with Workers(processes) as workers:
        results = workers.in_order(slow_for_small, tasks())
        first = next(results)
        assert len(taken) <= 1 + AHEAD * processes
        assert [first, *results] == [number * number for number in range(20)]
        assert list(workers.in_order(slow_for_small, [1, 2])) == [1, 4]


def test_the_error_of_a_task_is_the_callers() -> None:
    """What other tasks may still be doing is waited for, not left behind."""
    with pytest.raises(ValueError, match="-3"), Workers(2) as workers:
        list(workers.in_order(slow_for_small, [1, -3, *range(50)]))
    assert not [
        child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())
    ]


def test_processes_end_with_their_parent() -> None:
    """Also when it is killed and can say nothing."""
    code = (
        "from tests.training.data.test_workers import report_and_hang\n"
        "from training.data.workers import Workers\n"
        "list(Workers(2).in_order(report_and_hang, range(2)))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        workers = [psutil.Process(int(parent.stdout.readline())) for _ in range(2)]
        parent.kill()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    for process in alive:
        process.kill()
    assert len(gone) == 2
