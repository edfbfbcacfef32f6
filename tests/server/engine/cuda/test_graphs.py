"""Which sizes steps are recorded for, and that every size is made, recorded or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from server.engine.cuda.graphs import Graphs, StepFails, sizes_up_to


@pytest.mark.parametrize(
    ("least", "most"), [(1, 1), (1, 9), (1, 256), (32, 32), (32, 48), (32, 2304), (32, 4096)]
)
def test_no_more_is_computed_than_a_quarter_beyond_what_is_needed(least: int, most: int) -> None:
    """Few rows take no less time, so there sizes are further apart; the last is the most."""
    sizes = sizes_up_to(most, least)

    assert (sizes[0], sizes[-1]) == (least, most)
    assert len(sizes) <= 24
    graphs = Graphs(lambda _: None, sizes, [()])
    assert graphs.most == most
    for count in range(1, most + 1):
        size = graphs.size(count)
        assert size in sizes
        assert count <= size <= max(1.25 * count, count + max(8, least))


class Tape:
    """Records what is played, in a list; after ``most`` graphs there is no memory left."""

    def __init__(self, most: int = 99) -> None:
        self.recorded: list[Any] = []
        self._most = most

    def play(self, play: Callable[[], None]) -> None:
        play()

    def record(self, play: Callable[[], None]) -> Graph:
        if len(self.recorded) == self._most:
            raise RuntimeError("out of memory")
        self.recorded.append(play)
        return Graph()


class Graph:
    def replay(self) -> None: ...


def test_all_sizes_and_variants_are_recorded_and_then_not_played_again() -> None:
    """The largest first: the smaller ones fit into its memory."""
    played: list[tuple[int, bool]] = []
    graphs = Graphs(lambda size, has: played.append((size, has)), [1, 2], [(True,), (False,)])
    graphs.record_all(Tape())
    assert played == [(2, True), (2, False), (1, True), (1, False)]

    graphs.replay(2, False)

    assert len(graphs) == len(played) == 4


def test_where_recording_fails_steps_are_played(caplog: pytest.LogCaptureFixture) -> None:
    """None is replayed, though some were recorded before; the log says which, and what it means."""
    played: list[int] = []
    graphs = Graphs(played.append, [1, 2, 4], [()])
    graphs.record_all(Tape(most=2))
    assert not len(graphs)
    assert "A step of 1 could not be recorded as a graph" in caplog.text
    played.clear()

    for size in (4, 2, 1):
        graphs.replay(size)

    assert played == [4, 2, 1]


def test_before_they_are_recorded_all_are_played_whatever_fails() -> None:
    """What is too large for the memory must not keep the others from being compiled."""
    played: list[int] = []

    def play(size: int) -> None:
        played.append(size)
        if size != 2:
            raise torch.OutOfMemoryError if size == 4 else RuntimeError("out of resource")

    graphs = Graphs(play, [1, 2, 4], [()])
    graphs.play_all(Tape())

    assert played == [4, 2, 1]
    assert not len(graphs)


def test_what_cannot_be_played_is_not_served(caplog: pytest.LogCaptureFixture) -> None:
    """As where a kernel does not fit a GPU: every reply would break off. It says what helps.

    The log has the traceback, which is not shown with an expected failure.
    """

    def play(size: int) -> None:
        if size == 2:
            raise RuntimeError("out of resource: shared memory\nand more")

    with pytest.raises(StepFails, match=r"\(out of resource: shared memory\).*`--kernels torch`"):
        Graphs(play, [1, 2, 4], [()]).record_all(Tape())
    assert "RuntimeError: out of resource: shared memory\nand more" in caplog.text


def test_where_memory_is_short_what_has_room_is_served(caplog: pytest.LogCaptureFixture) -> None:
    """The largest step may have none while smaller ones have."""

    def play(size: int) -> None:
        if size == 4:
            raise torch.OutOfMemoryError

    graphs = Graphs(play, [1, 2, 4], [()])
    graphs.record_all(Tape())
    assert not len(graphs)
    assert "A step of 4 could not be recorded as a graph" in caplog.text
