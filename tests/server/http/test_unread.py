"""How long is waited for a client to read, by a clock in hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.http.unread import Unread

PATIENCE_S = 60.0


class Line:
    """A connection with ``left`` bytes unsent, and the loop that its looks are timed by."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.is_closed = False
        self.is_aborted = False
        self.due: list[Callable[[], None]] = []
        everything: Any = self
        self.unread = Unread(everything, everything, PATIENCE_S)

    def get_write_buffer_size(self) -> int:
        return self.left

    def is_closing(self) -> bool:
        return self.is_closed

    def abort(self) -> None:
        self.is_aborted = True

    def call_later(self, delay_s: float, look: Callable[[], None]) -> object:
        assert delay_s == PATIENCE_S
        self.due.append(look)
        return object()

    def wait(self, left: int) -> None:
        """Let the time pass until ``left`` bytes are unsent and it is looked again."""
        self.left = left
        self.due.pop(0)()


@pytest.fixture(params=["closed", "paused"])
def line(request: pytest.FixtureRequest) -> Line:
    """A connection that is being closed, or whose writer waits, with 100 bytes unsent."""
    line = Line(100)
    if request.param == "closed":
        line.is_closed = True
        line.unread.watch()
    else:
        line.unread.pause()
    return line


def test_who_reads_nothing_is_given_up(line: Line) -> None:
    """At the first look that finds as much as the one before."""
    line.wait(100)
    assert line.is_aborted


def test_who_reads_slowly_is_waited_for(line: Line) -> None:
    """However long it takes, as long as it gets less; and then it is over."""
    for left in (99, 98, 1, 0):
        line.wait(left)
    assert not line.is_aborted
    assert line.due == []


def test_a_reply_that_goes_on_is_no_business_of_this() -> None:
    """What is unsent while more is written may be as much as before, though all of that was read.

    Once its writer has to wait it counts.
    """
    line = Line(100)
    line.unread.watch()
    for left in (100, 100):
        line.wait(left)
    line.unread.pause()
    line.wait(100)
    line.unread.resume()
    line.wait(100)
    line.unread.pause()
    line.wait(100)
    assert not line.is_aborted
    line.wait(100)
    assert line.is_aborted
