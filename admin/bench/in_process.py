"""The engine without HTTP, in this process, as one side of a benchmark."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from adapters.errors import LcccError
from admin.bench.load import WARM_UP_ROUND, closed_loop, must_have_worked
from admin.bench.timeline import Round, Timeline
from admin.bench.workload import Prompter, Workload

if TYPE_CHECKING:
    from server.engine.engine import LocalEngine
    from server.engine.types import SamplingParams
    from server.settings import ServerSettings


@asynccontextmanager
async def started_engine(settings: ServerSettings) -> AsyncIterator[LocalEngine]:
    """An engine as a server with ``settings`` would have it."""
    from server.app import local_engine
    from server.engine.engine import LocalEngine

    engine = local_engine(settings)
    assert isinstance(engine, LocalEngine)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def greedy(workload: Workload) -> SamplingParams:
    """The likeliest token each time, to the full length."""
    from server.engine.types import SamplingParams

    length = workload.output_tokens
    return SamplingParams(temperature=0.0, max_tokens=length, min_tokens=length, ignore_eos=True)


def with_every_parameter(workload: Workload) -> SamplingParams:
    """Every sampling parameter on, but for a grammar, which depends on what is asked."""
    from server.engine.types import SamplingParams

    return SamplingParams(
        temperature=0.8,
        top_p=0.9,
        top_k=50,
        min_p=0.02,
        repetition_penalty=1.1,
        presence_penalty=0.5,
        frequency_penalty=0.5,
        logit_bias=dict.fromkeys(range(10), -1.0),
        max_tokens=workload.output_tokens,
        min_tokens=workload.output_tokens,
        seed=workload.seed,
        stop=("\N{REPLACEMENT CHARACTER}" * 4,),
        ignore_eos=True,
        logprobs=20,
    )


@dataclass(frozen=True, slots=True)
class _Job:
    id: str
    model: str
    prompt: tuple[int, ...]
    sampling: SamplingParams


@dataclass(frozen=True, kw_only=True)
class EngineSide:
    """Requests of ``prompter.workload`` to ``engine``, with ``models`` taken in turn.

    Every token has its moment, also one that ends in the middle of a character; a server sends
    such a token together with the next.
    ``is_decoding_only`` leaves prompts out of a round's ``parts``: they begin when all of the
    concurrent replies have, and end with the first of them.
    """

    engine: LocalEngine
    models: Sequence[str]
    prompter: Prompter
    sampling: SamplingParams
    is_decoding_only: bool = False

    @property
    def workload(self) -> Workload:
        return self.prompter.workload

    async def warm_up(self, count: int) -> None:
        """Send ``count`` requests that are not measured.

        Raises:
            BenchFailed: one of them failed, so that nothing is to be measured here.
        """
        must_have_worked(await self.play(WARM_UP_ROUND, count), "The engine")

    async def play(self, number: int, count: int | None = None) -> Round:
        """Make round ``number``, of ``count`` requests where not all are meant."""
        jobs = [
            _Job(
                f"bench-{number}-{index}",
                self.models[index % len(self.models)],
                await self.engine.prompt(self.prompter.messages(number, index)),
                self._sampling(number, index),
            )
            for index in range(self.workload.requests if count is None else count)
        ]
        watch = Watch(self.engine.timings, min(self.workload.concurrency, len(jobs)))
        played = await closed_loop(
            jobs, self.workload.concurrency, partial(self._send, watch=watch)
        )
        whole, decoding = watch.end()
        return replace(played, parts=decoding if self.is_decoding_only else whole)

    def _sampling(self, number: int, index: int) -> SamplingParams:
        if not self.workload.range_ratio:  # one object for all, as a server's defaults are
            return self.sampling
        _, length = self.workload.lengths(number, index)
        return replace(self.sampling, max_tokens=length, min_tokens=length)

    async def _send(self, job: _Job, watch: Watch) -> Timeline:
        from server.engine.types import Delta, Finished, GenerationRequest

        times: list[float] = []
        texts: list[str] = []
        counts: dict[str, Any] = {}
        failure = None
        sent_s = perf_counter()
        request = GenerationRequest(
            id=job.id, model=job.model, prompt=job.prompt, sampling=job.sampling
        )
        try:
            async for event in await self.engine.submit(request):
                if isinstance(event, Finished):
                    counts["prompt_tokens"] = event.prompt_tokens
                    counts["cached_tokens"] = event.cached_tokens
                    counts["output_tokens"] = event.completion_tokens
                    watch.ended()
                elif isinstance(event, Delta) and event.tokens:
                    times.append(perf_counter())
                    texts.append(event.text)
                    if len(times) == 1:
                        watch.began()
        except LcccError as error:
            failure = str(error)
        return Timeline(
            model=job.model,
            sent_s=sent_s,
            text_s=tuple(times),
            text="".join(texts),
            asked_tokens=job.sampling.max_tokens or 0,
            failure=failure,
            **counts,
        )


class Watch:
    """What the engine's counters and the clock said at four moments of a round.

    ``timings`` reads the counters. A reply has begun with its first text; ``streams`` run together.
    """

    def __init__(self, timings: Callable[[], Mapping[str, float]], streams: int) -> None:
        self._timings = timings
        self._streams = streams
        self._started = self._now()
        self._all_began: Moment | None = None
        self._first_ended: Moment | None = None

    def _now(self) -> Moment:
        return Moment(perf_counter(), dict(self._timings()))

    def began(self) -> None:
        """One reply has begun."""
        self._streams -= 1
        if self._streams == 0 and self._first_ended is None:
            self._all_began = self._now()

    def ended(self) -> None:
        """One reply has ended."""
        if self._first_ended is None:
            self._first_ended = self._now()

    def end(self) -> tuple[dict[str, float], dict[str, float]]:
        """Seconds by part: of the whole round, and of the time in which all replies ran.

        The latter is empty where they never did.
        """
        whole = parts_between(self._started, self._now())
        if self._all_began is None or self._first_ended is None:
            return whole, {}
        return whole, parts_between(self._all_began, self._first_ended)


@dataclass(frozen=True, slots=True)
class Moment:
    """The clock and the engine's counters, in seconds."""

    clock_s: float
    counters: Mapping[str, float]


OTHER = "other"


def parts_between(before: Moment, after: Moment) -> dict[str, float]:
    """How much each counter has grown; the rest of the time is :data:`OTHER`.

    That is planning, handing over and waiting. Empty where the engine counts nothing.
    """
    grown = {name: value - before.counters.get(name, 0.0) for name, value in after.counters.items()}
    if not grown:
        return {}
    rest = after.clock_s - before.clock_s - sum(grown.values())
    return {**grown, OTHER: max(0.0, rest)}
