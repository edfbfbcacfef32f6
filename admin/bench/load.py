"""A closed loop of requests, and sides that take turns."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

from admin.bench.errors import BenchFailed
from admin.bench.timeline import Round, Timeline

Job = TypeVar("Job")


# The number of the round that warms a side up, which no measured one has.
WARM_UP_ROUND = -1


def must_have_worked(warmed: Round, who: str) -> None:
    """Check that nothing failed in a round that warms ``who`` up.

    Raises:
        BenchFailed: something did, so that nothing is to be measured here.
    """
    for timeline in warmed.timelines:
        if timeline.failure is not None:
            raise BenchFailed(
                f"{who} cannot be measured: a first request for '{timeline.model}' "
                f"failed: {timeline.failure}"
            )


async def closed_loop(
    jobs: Sequence[Job], concurrency: int, send: Callable[[Job], Awaitable[Timeline]]
) -> Round:
    """Send ``jobs`` in order, ``concurrency`` of them at any time until they run out.

    ``send`` does not raise for what a request can fail at; it says so in the timeline.
    """
    waiting = iter(jobs)

    async def worker() -> list[Timeline]:
        return [await send(job) for job in waiting]

    begun_s = perf_counter()
    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(worker()) for _ in range(min(concurrency, len(jobs)))]
    ended_s = perf_counter()
    timelines = sorted((each for one in workers for each in one.result()), key=_sent)
    return Round(timelines=tuple(timelines), begun_s=begun_s, ended_s=ended_s)


def _sent(timeline: Timeline) -> float:
    return timeline.sent_s


@dataclass(frozen=True, slots=True)
class Side:
    """One of those that are compared. ``play`` makes the round of the given number."""

    name: str
    play: Callable[[int], Awaitable[Round]]


async def alternate(
    sides: Sequence[Side], rounds: int, on_round: Callable[[str, int, Round], None]
) -> dict[str, list[Round]]:
    """Every side's rounds: A B A B …, so that what slows the machine for a while slows both."""
    played: dict[str, list[Round]] = {side.name: [] for side in sides}
    for number in range(rounds):
        for side in sides:
            played[side.name].append(await side.play(number))
            on_round(side.name, number, played[side.name][-1])
    return played
