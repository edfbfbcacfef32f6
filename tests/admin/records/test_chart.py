"""Charts before they are drawn: which lines, which scale, which numbers on the axes."""

from __future__ import annotations

from pathlib import Path

import pytest

from admin.records.chart import (
    POINTS,
    chart_of,
    linear_ticks,
    log_ticks,
    smoothed,
    tick_label,
)
from admin.records.errors import NothingToPlot
from tests.records import make_run, measure
from training.runs import EventLog, Run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Five steps and one validation."""
    run = make_run(tmp_path)
    measure(run, 5)
    log = EventLog(run.events_path)
    log.append("evaluation", 5, validation_nll=3.5)
    log.close()
    return run


def test_loss_and_validation_share_a_colour(run: Run, tmp_path: Path) -> None:
    """Validation is dashed; another run has another colour."""
    other = make_run(tmp_path, adapter="other")
    measure(other, 2)

    lines = chart_of([run, other], "loss", smoothing=0.0, is_log=False).lines

    assert [(line.label, line.is_dashed) for line in lines] == [
        (run.id, False),
        (f"{run.id} (validation)", True),
        (other.id, False),
    ]
    assert lines[0].colour == lines[1].colour != lines[2].colour
    assert list(lines[0].points) == [(step, 4.0 - step / 100) for step in range(1, 6)]
    assert list(lines[1].points) == [(5, 3.5)]


def test_a_smoothed_line_stands_before_what_it_is_made_of(run: Run) -> None:
    """Validation is not smoothed: it has few points, and each is exact."""
    lines = chart_of([run], "loss", smoothing=0.9, is_log=False).lines

    assert [(line.is_faint, line.is_dashed) for line in lines] == [
        (True, False),
        (False, False),
        (False, True),
    ]


def test_smoothing_has_no_bias_at_the_start() -> None:
    """The first value is itself, a constant stays, and the past counts as it should."""
    assert list(smoothed([5.0, 5.0, 5.0], 0.9)) == pytest.approx([5.0, 5.0, 5.0])
    assert list(smoothed([1.0, 4.0], 0.5)) == pytest.approx([1.0, (0.25 + 2.0) / 0.75])


def test_a_long_run_keeps_its_extremes(tmp_path: Path) -> None:
    """More points than can be seen are drawn as the least and greatest of their neighbours."""
    run = make_run(tmp_path)
    log = EventLog(run.events_path)
    for step in range(1, 5 * POINTS):
        log.append("train", step, loss=50.0 if step == 1234 else 1.0 + step % 2)
    log.close()

    (line,) = chart_of([run], "loss", smoothing=0.0, is_log=False).lines

    assert len(line.points) <= 2 * POINTS
    values = [value for _, value in line.points]
    assert (min(values), max(values)) == (1.0, 50.0)


def test_what_was_not_measured_cannot_be_plotted(run: Run) -> None:
    """The message names the quantity and the run."""
    with pytest.raises(NothingToPlot, match=f"no learning-rate has been measured in {run.id}"):
        chart_of([run], "learning-rate", smoothing=0.0, is_log=False)


def test_a_log_scale_leaves_out_what_has_no_logarithm(tmp_path: Path) -> None:
    """A learning rate that ends at zero is drawn up to there."""
    run = make_run(tmp_path)
    log = EventLog(run.events_path)
    for step, rate in enumerate((1e-3, 1e-4, 0.0), start=1):
        log.append("train", step, learning_rate=rate)
    log.close()

    chart = chart_of([run], "learning-rate", smoothing=0.0, is_log=True)

    assert [step for step, _ in chart.lines[0].points] == [1, 2]
    assert 0 < chart.values[0] < 1e-4
    assert chart.values[1] > 1e-3


def test_a_single_value_still_has_a_scale(tmp_path: Path) -> None:
    """One step, one value, on either scale."""
    run = make_run(tmp_path)
    measure(run, 1)
    for is_log in (False, True):
        chart = chart_of([run], "loss", smoothing=0.0, is_log=is_log)
        assert chart.steps == (1, 2)
        assert chart.values[0] < 3.99 < chart.values[1]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (1.62, 2.41, [1.7, 1.8, 1.9, 2.0, 2.1, 2.2, 2.3, 2.4]),
        (-1e-5, 2.9e-5, [-1e-5, -5e-6, 0, 5e-6, 1e-5, 1.5e-5, 2e-5, 2.5e-5]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    """Within the axis, evenly spaced."""
    assert linear_ticks(low, high) == pytest.approx(ticks)


def test_ticks_of_a_log_scale() -> None:
    """Units of the powers of ten; a narrow range has ordinary ones instead."""
    assert log_ticks(0.5, 60) == pytest.approx([0.5, 1, 2, 5, 10, 20, 50])
    assert log_ticks(1e-9, 1e3) == pytest.approx([10.0**power for power in range(-9, 4)])
    assert log_ticks(2.2, 2.4)[0] == pytest.approx(2.2)


@pytest.mark.parametrize(
    ("value", "ticks", "label"),
    [
        (2.0, [1.5, 2.0, 2.5], "2.0"),
        (0.0, [0.0, 0.25], "0.0"),
        (1000.0, [0.0, 500.0, 1000.0], "1,000"),
        (2e-4, [1e-4, 2e-4], "0.0002"),
        (2e-6, [1e-6, 2e-6], "2e-06"),
    ],
)
def test_labels_have_the_digits_that_tell_them_apart(
    value: float, ticks: list[float], label: str
) -> None:
    """No more, and an exponent where it reads better."""
    assert tick_label(value, ticks) == label
