"""Work spread over processes, its results in the order of the tasks, with a bounded look-ahead."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import TypeVar

from adapters.environment import cpu_share, usable_cpus

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks handed out for each process: one is worked on, one waits, so that no process does.
AHEAD = 2


def processors() -> int:
    """How many processes may work at a time."""
    return min(usable_cpus(), cpu_share() or usable_cpus())


def in_order(
    work: Callable[[Task], Result], tasks: Iterable[Task], processes: int
) -> Iterator[Result]:
    """``work`` of every task, in their order; with one process, in this one.

    Only as many tasks are taken ahead as keep ``processes`` busy. ``work`` must be importable and
    tasks and results picklable where there is more than one process.
    """
    if processes <= 1:
        yield from map(work, tasks)
        return
    with ProcessPoolExecutor(processes, get_context("spawn"), _live_and_die_with_parent) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                if len(waiting) > AHEAD * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _live_and_die_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
