"""How a person asks a command to end: by Ctrl-C, by SIGTERM, or by closing its terminal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

STOPPING = "Stopping after this step, with a checkpoint (again: at once) …"
INTERRUPTED = 130  # what a shell reports of a command that Ctrl-C ended


@contextmanager
def on_request(ask: Callable[[], None]) -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP call ``ask`` while this is entered.

    SIGHUP, a terminal that is closed, stays ignored where the command was told to outlive it
    (nohup).
    """

    def handle(_signal: int, _frame: FrameType | None) -> None:
        ask()

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Have SIGTERM unwind the command as Ctrl-C does; only the main thread can ask for it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def stop_on_signal(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first request into the answer to a question; a second one interrupts at once.

    Yields the question whether to stop, :func:`announced`: the handler itself may run in the middle
    of another write to the terminal, so it writes nothing.
    """
    asked = False

    def ask() -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    with on_request(ask):
        yield announced(lambda: asked, say)


def announced(is_asked: Callable[[], bool], say: Callable[[str], None]) -> Callable[[], bool]:
    """The question ``is_asked``, which is told once, when it is first answered with yes."""
    said = False

    def should_stop() -> bool:
        nonlocal said
        asked = is_asked()
        if asked and not said:
            said = True
            with suppress(OSError):  # the terminal may be what is gone
                say(STOPPING)
        return asked

    return should_stop
