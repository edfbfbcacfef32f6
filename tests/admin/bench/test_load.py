"""The closed loop and the alternation."""

from __future__ import annotations

import asyncio

import pytest

from admin.bench.load import Side, alternate, closed_loop
from admin.bench.timeline import Round, Timeline


class Requests:
    """Sends nothing; notes how many run at once and in which order they began."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.begun: list[int] = []

    async def send(self, job: int) -> Timeline:
        self.begun.append(job)
        self.running += 1
        self.most = max(self.most, self.running)
        for _ in range(1 + job % 3):
            await asyncio.sleep(0)
        self.running -= 1
        return Timeline(model=str(job), sent_s=float(job))


@pytest.mark.parametrize(("jobs", "concurrency", "most"), [(20, 4, 4), (3, 8, 3), (5, 1, 1)])
def test_so_many_run_at_any_time(jobs: int, concurrency: int, most: int) -> None:
    """Each job is sent once, in order; a free place is taken at once, and none is exceeded."""
    requests = Requests()

    played = asyncio.run(closed_loop(range(jobs), concurrency, requests.send))

    assert requests.begun == list(range(jobs))
    assert requests.most == most
    assert [timeline.model for timeline in played.timelines] == [str(job) for job in range(jobs)]
    assert played.ended_s > played.begun_s


def test_a_bug_in_sending_is_not_swallowed() -> None:
    """What is no failure of a request ends the benchmark."""

    async def broken(_: int) -> Timeline:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(closed_loop(range(3), 2, broken))
    assert raised.group_contains(ZeroDivisionError)


def test_sides_take_turns() -> None:
    """A B A B, each told its round's number, and told of in that order."""
    order: list[tuple[str, int]] = []
    told: list[tuple[str, int]] = []

    def side(name: str) -> Side:
        async def play(number: int) -> Round:
            order.append((name, number))
            return Round(timelines=(), begun_s=number, ended_s=number + 1)

        return Side(name, play)

    played = asyncio.run(
        alternate([side("a"), side("b")], 2, lambda name, number, _: told.append((name, number)))
    )

    assert order == told == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert [one.begun_s for one in played["b"]] == [0, 1]
