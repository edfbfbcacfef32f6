"""What a chart of runs shows, before anything is drawn: lines, scales, ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from admin.records.errors import NothingToPlot
from training.runs import History, Run
from training.runs.curve import Curve

POINTS = 1000  # buckets of a line; more than a chart has pixels for is not drawn
TICKS = 8
# Okabe and Ito's colours, told apart by colour-blind readers, without the yellow.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
# Of each quantity: the lines that show it, and what its axis says.
QUANTITIES: dict[str, tuple[tuple[str, ...], str]] = {
    "loss": (("loss", "validation_nll"), "loss (nats per token)"),
    "validation-per-character": (("validation_nll_per_character",), "nats per character"),
    "learning-rate": (("learning_rate",), "learning rate"),
    "gradient-norm": (("gradient_norm",), "gradient norm"),
    "tokens-per-second": (("tokens_per_s",), "tokens a second"),
}


@dataclass(frozen=True)
class Line:
    """One curve: ``points`` are (step, value). A faint one is what a smoothed one is made of."""

    label: str
    points: Sequence[tuple[float, float]]
    colour: str
    is_dashed: bool = False
    is_faint: bool = False


@dataclass(frozen=True)
class Chart:
    """Lines over the steps. ``is_log``: the vertical axis is logarithmic."""

    title: str
    axis: str
    lines: Sequence[Line]
    is_log: bool = False

    @property
    def steps(self) -> tuple[float, float]:
        """The first and the last step that a line has, at least one apart."""
        steps = [step for line in self.lines for step, _ in line.points]
        return min(steps), max(*steps, min(steps) + 1)

    @property
    def values(self) -> tuple[float, float]:
        """The least and the greatest value, with some room, and never the same."""
        values = [value for line in self.lines for _, value in line.points]
        low, high = min(values), max(values)
        if self.is_log:
            room = (high / low) ** 0.05 if high > low else 1.5
            return low / room, high * room
        room = 0.05 * (high - low) or abs(high) * 0.1 or 1.0
        return low - room, high + room


def chart_of(runs: Sequence[Run], quantity: str, *, smoothing: float, is_log: bool) -> Chart:
    """The ``quantity`` (of :data:`QUANTITIES`) of ``runs``, each in its colour.

    ``smoothing`` is the weight, 0 to below 1, of what came before in a moving average; the
    unsmoothed line stays behind it, faint.

    Raises:
        NothingToPlot: none of the runs has measured it (on a log scale: a positive value of it).
    """
    names, axis = QUANTITIES[quantity]
    lines = [
        line
        for index, run in enumerate(runs)
        for line in _lines(run, names, COLOURS[index % len(COLOURS)], smoothing, is_log)
    ]
    lines.sort(key=lambda line: not line.is_faint)  # what is drawn first lies behind
    if not lines:
        raise NothingToPlot(quantity, [run.id for run in runs])
    title = runs[0].id if len(runs) == 1 else f"{len(runs)} runs"
    return Chart(title, axis + (", log scale" if is_log else ""), lines, is_log)


def _lines(
    run: Run, names: Sequence[str], colour: str, smoothing: float, is_log: bool
) -> Iterator[Line]:
    history = History(run.events_path, names, POINTS)
    history.refresh()
    for name in names:
        curve = history.curves[name]
        if is_log:
            curve = _curve((step, value) for step, value in _raw(curve) if value > 0)
        if not curve.steps:
            continue
        of_validation = name.startswith("validation") and len(names) > 1
        label = f"{run.id} (validation)" if of_validation else run.id
        smooth = smoothing > 0 and not of_validation
        yield Line(label, _drawn(curve), colour, of_validation, is_faint=smooth)
        if smooth:
            averaged = _curve(zip(curve.steps, smoothed(curve.values, smoothing), strict=True))
            yield Line(label, _drawn(averaged), colour)


def smoothed(values: Iterable[float], weight: float) -> Iterator[float]:
    """The exponential moving average without the bias of its start (Kingma and Ba 2014, sec. 3)."""
    average, decay = 0.0, 1.0
    for value in values:
        average = weight * average + (1 - weight) * value
        decay *= weight
        yield average / (1 - decay)


def _curve(points: Iterable[tuple[int, float]]) -> Curve:
    curve = Curve(POINTS)
    curve.extend(points)
    return curve


def _raw(curve: Curve) -> Iterator[tuple[int, float]]:
    return zip(curve.steps, curve.values, strict=True)


def _drawn(curve: Curve) -> list[tuple[float, float]]:
    """The points themselves, or both extremes of each bucket where there are too many."""
    if len(curve.steps) <= POINTS:
        return list(_raw(curve))
    return [
        point
        for one in curve.buckets()
        for point in ((one.first_step, one.low), (one.last_step, one.high))
    ]


def linear_ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * unit for unit in (1, 2, 5, 10) if power * unit >= rough)
    first = math.ceil(low / step)
    count = math.floor(high / step) - first + 1
    return [(first + index) * step for index in range(count)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten from ``low`` to ``high``; fewer where there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for units in ((1, 2, 5), (1,)):
        ticks = [unit * 10.0**power for power in powers for unit in units]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 2 * TICKS:
            break
    return ticks if len(ticks) > 1 else linear_ticks(low, high)


def tick_label(value: float, ticks: Sequence[float]) -> str:
    """The number with as many digits as tell it from its neighbours."""
    if value and not 1e-3 <= abs(value) < 1e6:  # noqa: PLR2004 - beyond, exponents read better
        return f"{value:.2g}"
    gap = min((abs(b - a) for a, b in pairwise(sorted(ticks))), default=abs(value) or 1.0)
    digits = max(0, -math.floor(math.log10(gap) + 1e-9))
    return f"{value:,.{digits}f}"
