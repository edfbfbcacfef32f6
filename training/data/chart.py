"""Histograms as an SVG file that stands alone, without scripts and fonts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from training.data.stats import Distribution

WIDTH, PANEL_HEIGHT = 720, 200
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 36, 30
BARS = 60

# The share that the bars show; the rest lies in the last bar, so that it does not flatten others.
SHOWN_SHARE = 0.995


class Panel(NamedTuple):
    """A histogram with its title."""

    title: str
    distribution: Distribution


class Bar(NamedTuple):
    """How many numbers lie from ``low`` up to ``high``."""

    low: int
    high: int
    many: int


def histogram_svg(panels: Sequence[Panel]) -> str:
    """The histograms of ``panels``, one below the other."""
    height = PANEL_HEIGHT * len(panels)
    parts = "".join(_panel(panel, PANEL_HEIGHT * index) for index, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">\n'
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>\n{parts}</svg>\n'
    )


def bars(distribution: Distribution, most: int = BARS) -> list[Bar]:
    """At most ``most`` bars of equal width, the last of which holds all that is greater."""
    counts = distribution.counts
    if not counts:
        return []
    seen = end = 0
    while seen < SHOWN_SHARE * distribution.many:
        seen += counts[end]
        end += 1
    width = -(-end // most)
    lows = range(0, end, width)
    return [
        Bar(low, low + width - 1, sum(counts[low : low + width]))
        if low + width < end
        else Bar(low, distribution.greatest, sum(counts[low:]))
        for low in lows
    ]


def _panel(panel: Panel, top: int) -> str:
    distribution = panel.distribution
    drawn = bars(distribution)
    told = ", ".join(f"p{share} {value:,}" for share, value in distribution.percentiles.items())
    summary = f"mean {distribution.mean:.1f}, {told}, greatest {distribution.greatest:,}"
    return (
        f'<g transform="translate(0 {top})" fill="#222">\n'
        f'<text x="{LEFT}" y="20"><tspan font-weight="bold">{escape(panel.title)}</tspan>'
        f'<tspan dx="8" fill="#666">{escape(summary)}</tspan></text>\n'
        f"{''.join(_marks(drawn))}</g>\n"
    )


def _marks(drawn: Sequence[Bar]) -> Iterator[str]:
    """Bars with what they say when pointed at, and the axes."""
    floor = PANEL_HEIGHT - BOTTOM
    room, tall = WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM
    greatest = max((bar.many for bar in drawn), default=0)
    step = room / max(1, len(drawn))
    for index, bar in enumerate(drawn):
        high = tall * bar.many / greatest
        yield (
            f'<rect x="{LEFT + index * step:.2f}" y="{floor - high:.2f}" '
            f'width="{max(0.5, step - 1):.2f}" height="{high:.2f}" fill="#4878a8">'
            f"<title>{bar.low} to {bar.high}: {bar.many:,}</title></rect>\n"
        )
    yield f'<path d="M{LEFT} {TOP}V{floor}H{WIDTH - RIGHT}" fill="none" stroke="#888"/>\n'
    yield f'<text x="{LEFT - 6}" y="{TOP + 4}" text-anchor="end">{greatest:,}</text>\n'
    every = max(1, len(drawn) // 10)
    for index in range(0, len(drawn), every):
        where = LEFT + (index + 0.5) * step
        label = f"{drawn[index].low}"
        yield f'<text x="{where:.1f}" y="{floor + 16}" text-anchor="middle">{label}</text>\n'
