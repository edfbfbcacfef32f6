"""A trial as a process of its own, and the signals that reach it through this one.

It is ``lccc-admin train``. It has a session of its own, so that Ctrl-C comes to this process alone,
and is passed on: the first one asks for an end with a checkpoint, a second one ends it at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

COMMAND = (sys.executable, "-m", "admin")
LOOK_EVERY_S = 0.1
STDERR = 2  # what a trial says; stdout is for the table


class Ended(NamedTuple):
    """Which process it was, and its exit code; negative: the signal that killed it."""

    pid: int
    code: int


class StopRequests:
    """How often a sweep was asked to end; what ``is_asked`` says counts once, when looked at."""

    def __init__(self, is_asked: Callable[[], bool] = lambda: False) -> None:
        self.count = 0
        self._is_asked = is_asked
        self._is_noted = False

    def ask(self) -> None:
        """One more."""
        self.count += 1

    def look(self) -> int:
        """How many there have been."""
        if not self._is_noted and self._is_asked():
            self._is_noted = True
            self.count += 1
        return self.count


def run_trial(arguments: Sequence[str], lock: int, requests: StopRequests) -> Ended:
    """Run ``lccc-admin`` with ``arguments`` to its end; it inherits the handle ``lock``."""
    passed = 0
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        start_new_session=True,
        pass_fds=(lock,),
        stdin=subprocess.DEVNULL,
        stdout=STDERR,
    )
    try:
        while process.poll() is None:
            if requests.look() > passed:
                passed += 1
                _terminate(process)
            time.sleep(LOOK_EVERY_S)
    finally:
        if process.poll() is None:  # this one is broken: leave nobody behind
            _terminate(process)
            process.wait()
    return Ended(process.pid, process.returncode)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
