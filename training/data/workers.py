"""Work spread over processes, its results in the order of the tasks, with a bounded look-ahead."""

from __future__ import annotations

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Self, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks handed out for each process: one is worked on, one waits, so that no process does.
AHEAD = 2


class Workers:
    """So many processes, started when they are first needed; with one, the work is done in this.

    Use it as a context manager.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def in_order(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """``work`` of every task, in their order.

        Only as many tasks are taken ahead as keep the processes busy. ``work`` must be importable
        and tasks and results picklable where there is more than one process.
        """
        if self.processes <= 1:
            yield from map(work, tasks)
            return
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.processes, get_context("spawn"), _live_and_die_with_parent
            )
        waiting: deque[Future[Result]] = deque()
        for task in tasks:
            waiting.append(self._pool.submit(work, task))
            if len(waiting) > AHEAD * self.processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _live_and_die_with_parent() -> None:
    """Leave Ctrl-C to the parent, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
