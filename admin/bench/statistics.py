"""Figures from timelines, by vLLM's definitions.

They are those of ``vllm/benchmarks/serve.py`` and, for what a chunk of a chat is, of the request
function in ``vllm/benchmarks/lib/endpoint_request_func.py``:

- TTFT: from sending a request to its first token.
- ITL: the gaps between a reply's chunks after the first, of all replies in one list.
- TPOT: (latency - TTFT) / (output tokens - 1) of each reply with more than one token.
- E2E latency: from sending a request to its last token.
- Output throughput: output tokens of all successful requests / duration of the whole load, from
  before the first request is sent until the last is over.

One thing differs: only chunks with text count as tokens. vLLM also takes the opening chunk that
has a role alone and the closing one that has a finish reason alone, so that a server which sends
the former at once looks quick, and both add gaps of almost nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median
from typing import Self

import msgspec

from admin.bench.timeline import Round


class Distribution(msgspec.Struct, frozen=True):
    """Mean and percentiles of some values, in their unit."""

    mean: float
    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Self | None:
        """``None`` where there are no values."""
        ordered = sorted(values)
        if not ordered:
            return None
        p50, p90, p99 = (percentile(ordered, share) for share in (0.5, 0.9, 0.99))
        return cls(mean=fmean(ordered), p50=p50, p90=p90, p99=p99)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which ``share`` of ``ordered`` lies, interpolated as numpy does."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one side of a benchmark. Latencies are in milliseconds.

    ``short``: successful replies with fewer tokens than were asked for. ``counted``: how many
    replies' tokens came from which source. ``failures``: how many requests failed for which reason.
    """

    requests: int
    failed: int
    failures: dict[str, int]
    short: int
    counted: dict[str, int]
    duration_s: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    requests_per_s: float
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft_ms: Distribution | None
    itl_ms: Distribution | None
    tpot_ms: Distribution | None
    e2e_ms: Distribution | None


def summarise(rounds: Sequence[Round], asked_tokens: int) -> Summary:
    """The figures of ``rounds`` together; their durations add up."""
    every = [timeline for one in rounds for timeline in one.timelines]
    done = [timeline for timeline in every if timeline.failure is None]
    duration_s = sum(one.ended_s - one.begun_s for one in rounds)
    prompt, output = (
        sum(each.prompt_tokens for each in done),
        sum(each.output_tokens for each in done),
    )
    per_s = 1 / duration_s if duration_s > 0 else 0.0
    return Summary(
        requests=len(every),
        failed=len(every) - len(done),
        failures=dict(Counter(each.failure for each in every if each.failure is not None)),
        short=sum(each.output_tokens < (each.asked_tokens or asked_tokens) for each in done),
        counted=dict(Counter(each.counted for each in done)),
        duration_s=duration_s,
        prompt_tokens=prompt,
        cached_tokens=sum(each.cached_tokens for each in done),
        output_tokens=output,
        requests_per_s=len(done) * per_s,
        output_tokens_per_s=output * per_s,
        total_tokens_per_s=(prompt + output) * per_s,
        ttft_ms=_ms(each.ttft_s for each in done),
        itl_ms=_ms(gap for each in done for gap in each.gaps_s),
        tpot_ms=_ms(each.tpot_s for each in done if each.tpot_s is not None),
        e2e_ms=_ms(each.latency_s for each in done),
    )


def _ms(seconds: Iterable[float]) -> Distribution | None:
    return Distribution.of(1000 * each for each in seconds)


class Spread(msgspec.Struct, frozen=True):
    """What several rounds gave, in their unit: the median, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of one value at least."""
        return cls(median(values), min(values), max(values))

    @classmethod
    def of_ratios(cls, figures: Sequence[float], others: Sequence[float]) -> Self:
        """Each round's figure as a multiple of the other side's in the same round."""
        return cls.of([one / other for one, other in zip(figures, others, strict=True)])

    def shown(self, digits: int, unit: str = "") -> str:
        """``2.31× (2.20 to 2.40)``, with so many decimal ``digits``."""
        return f"{self.median:.{digits}f}{unit} ({self.least:.{digits}f} to {self.most:.{digits}f})"


Figure = Callable[[Summary], float | None]


def output_rate(summary: Summary) -> float | None:
    """Output tokens per second."""
    return summary.output_tokens_per_s


def median_ttft(summary: Summary) -> float | None:
    """p50 of TTFT in milliseconds."""
    return None if summary.ttft_ms is None else summary.ttft_ms.p50


def median_itl(summary: Summary) -> float | None:
    """p50 of ITL in milliseconds."""
    return None if summary.itl_ms is None else summary.itl_ms.p50


def ratio(ours: Sequence[Round], theirs: Sequence[Round], figure: Figure) -> Spread | None:
    """``figure`` of each of our rounds over that of their round beside it.

    ``None`` where no pair has both figures.
    """
    pairs = zip(ours, theirs, strict=False)
    found = [(figure(summarise([one], 0)), figure(summarise([other], 0))) for one, other in pairs]
    shares = [one / other for one, other in found if one is not None and other]
    return Spread.of(shares) if shares else None
