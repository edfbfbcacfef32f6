"""Figures on constructed timelines, whose right answers can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from admin.bench.statistics import (
    Distribution,
    median_itl,
    median_ttft,
    output_rate,
    percentile,
    ratio,
    summarise,
)
from admin.bench.timeline import Round, Timeline


def reply(sent_s: float, *text_s: float, output_tokens: int | None = None) -> Timeline:
    return Timeline(
        model="m",
        sent_s=sent_s,
        text_s=text_s,
        prompt_tokens=10,
        output_tokens=len(text_s) if output_tokens is None else output_tokens,
    )


def failure(reason: str) -> Timeline:
    return Timeline(model="m", sent_s=0.0, text_s=(5.0,), output_tokens=1, failure=reason)


def one_round(*timelines: Timeline, seconds: float = 10.0) -> Round:
    return Round(timelines=timelines, begun_s=100.0, ended_s=100.0 + seconds)


def test_latencies_follow_vllms_definitions() -> None:
    """TTFT from sending, ITL the gaps after the first, TPOT over all tokens but the first."""
    summary = summarise([one_round(reply(1.0, 1.5, 1.6, 2.0, 2.1))], 4)

    assert summary.ttft_ms is not None
    assert summary.itl_ms is not None
    assert summary.tpot_ms is not None
    assert summary.e2e_ms is not None
    assert summary.ttft_ms.p50 == pytest.approx(500)
    assert summary.itl_ms.mean == pytest.approx((100 + 400 + 100) / 3)
    assert summary.itl_ms.p50 == pytest.approx(100)
    assert summary.tpot_ms.p50 == pytest.approx(600 / 3)
    assert summary.e2e_ms.p50 == pytest.approx(1100)


def test_a_reply_is_short_of_what_was_asked_of_it() -> None:
    """Of its own length where it had one, else of the load's."""
    own = replace(reply(0.0, 1.0, 2.0), asked_tokens=2)

    assert summarise([one_round(own, reply(0.0, 1.0, 2.0))], 3).short == 1


def test_gaps_of_all_replies_are_one_list() -> None:
    """A long reply weighs as much as its chunks in ITL, and as one reply in TPOT."""
    long = reply(0.0, *(1.0 + 0.1 * index for index in range(10)))
    short = reply(0.0, 1.0, 2.0)

    summary = summarise([one_round(long, short)], 2)

    assert summary.itl_ms is not None
    assert summary.tpot_ms is not None
    assert summary.itl_ms.mean == pytest.approx((9 * 100 + 1000) / 10)
    assert summary.tpot_ms.mean == pytest.approx((100 + 1000) / 2)


def test_tpot_counts_tokens_where_itl_counts_chunks() -> None:
    """Two tokens in one chunk are one gap, and two tokens."""
    summary = summarise([one_round(reply(0.0, 1.0, 1.4, output_tokens=5))], 5)

    assert summary.itl_ms is not None
    assert summary.tpot_ms is not None
    assert summary.itl_ms.mean == pytest.approx(400)
    assert summary.tpot_ms.mean == pytest.approx(100)


def test_throughput_is_over_the_whole_load() -> None:
    """Tokens of successful requests over the time from the first sending to the last end."""
    summary = summarise([one_round(reply(0, 1, 2, 3), reply(0, 1), seconds=8.0)], 3)

    assert summary.output_tokens_per_s == 4 / 8
    assert summary.total_tokens_per_s == 24 / 8
    assert summary.requests_per_s == 2 / 8


def test_rounds_are_added_up() -> None:
    """Their tokens and their durations; the time between them counts for nothing."""
    first = Round(timelines=(reply(0, 1, 2),), begun_s=0, ended_s=4)
    second = Round(timelines=(reply(90, 91, 92),), begun_s=90, ended_s=92)

    summary = summarise([first, second], 2)

    assert summary.duration_s == 6
    assert summary.output_tokens_per_s == 4 / 6
    assert summary.ttft_ms == Distribution(mean=1000, p50=1000, p90=1000, p99=1000)


def test_a_failed_request_counts_as_failed_and_for_nothing_else() -> None:
    """Its tokens and times are in no figure, its reason is."""
    summary = summarise([one_round(reply(0, 1, 2), failure("no"), failure("no"), failure("x"))], 2)

    assert (summary.requests, summary.failed) == (4, 3)
    assert summary.failures == {"no": 2, "x": 1}
    assert summary.output_tokens == 2
    assert summary.ttft_ms is not None
    assert summary.ttft_ms.p99 == 1000


def test_without_a_success_there_are_no_latencies() -> None:
    """None, instead of figures of nothing; throughput is 0."""
    summary = summarise([one_round(failure("no"))], 2)

    assert (summary.ttft_ms, summary.itl_ms, summary.tpot_ms, summary.e2e_ms) == (None,) * 4
    assert summary.output_tokens_per_s == 0


def test_one_token_has_a_ttft_alone() -> None:
    """Nothing follows it, so it has neither gap nor time per further token."""
    summary = summarise([one_round(reply(0, 1))], 1)

    assert summary.ttft_ms is not None
    assert (summary.itl_ms, summary.tpot_ms) == (None, None)


def test_replies_that_ended_early_are_counted() -> None:
    """Against the length that was asked for."""
    rounds = [one_round(reply(0, 1, 2, 3), reply(0, 1), reply(0, 1, 2, 3, output_tokens=2))]

    assert summarise(rounds, 3).short == 2


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_percentiles_are_numpys(values: list[float], share: float) -> None:
    """Linear interpolation between the two nearest, as vLLM's figures are made."""
    expected = float(np.percentile(values, 100 * share))

    assert percentile(sorted(values), share) == pytest.approx(expected, abs=1e-6)


def test_a_ratio_is_of_rounds_side_by_side() -> None:
    """The median of the pairs' ratios with least and most; slow minutes cancel out."""
    ours = [one_round(reply(0, 1, 2), seconds=s) for s in (1, 10, 2)]
    theirs = [one_round(reply(0, 1, 2), seconds=s) for s in (2, 40, 2)]

    found = ratio(ours, theirs, output_rate)

    assert found is not None
    assert (found.median, found.least, found.most) == (2, 1, 4)


def test_a_pair_without_figures_is_left_out() -> None:
    """And where no pair has them, there is no ratio."""
    good, bad = one_round(reply(0, 1, 3)), one_round(failure("no"))
    slow = one_round(reply(0, 2, 6))

    found = ratio([good, good], [bad, slow], median_itl)

    assert found is not None
    assert (found.least, found.most) == (0.5, 0.5)
    assert ratio([good], [bad], median_ttft) is None
    assert ratio([good], [bad], output_rate) is None
