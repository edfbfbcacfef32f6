"""A chart as SVG, by hand: it needs no library, scales, and can be read without colours."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

from admin.records.chart import Chart, Line, linear_ticks, log_ticks, tick_label

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT, TOP, BOTTOM = 80, 36, 48, 56
LEGEND_ROW = 20
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #222 }
.title { font-size: 16px; font-weight: 600 }
.grid { stroke: #ddd }
.axis { stroke: #888 }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round }
.faint { opacity: .25 }
.dashed { stroke-dasharray: 6 4 }
"""


@dataclass(frozen=True)
class Frame:
    """Where the plot's area lies, in pixels, and what it spans."""

    steps: tuple[float, float]
    values: tuple[float, float]
    is_log: bool
    top: float

    def x(self, step: float) -> float:
        low, high = self.steps
        return LEFT + (step - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high, here = (*self.values, value)
        if self.is_log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        return HEIGHT - BOTTOM - (here - low) / (high - low) * (HEIGHT - BOTTOM - self.top)


def frame_of(chart: Chart) -> Frame:
    """The frame that fits all lines, below a legend of a row each."""
    rows = len(_named(chart))
    return Frame(chart.steps, chart.values, chart.is_log, TOP + LEGEND_ROW * rows)


def svg(chart: Chart) -> str:
    """A whole SVG document."""
    frame = frame_of(chart)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    label = f"aria-label={quoteattr(f'{chart.axis} over steps: {chart.title}')}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {label}>',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text class="title" x="{LEFT}" y="28">{escape(chart.title)}</text>',
        *_legend(chart),
        *_value_axis(chart, frame),
        *_step_axis(frame),
        *(_path(line, frame) for line in chart.lines),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _named(chart: Chart) -> list[Line]:
    """The lines that the legend names: a faint one stands behind a line of the same name."""
    return [line for line in chart.lines if not line.is_faint]


def _legend(chart: Chart) -> Iterator[str]:
    for row, line in enumerate(_named(chart)):
        y = TOP + LEGEND_ROW * row
        yield f'<line x1="{LEFT}" x2="{LEFT + 28}" y1="{y}" y2="{y}" {_stroke(line)}/>'
        yield f'<text x="{LEFT + 36}" y="{y + 4}">{escape(line.label)}</text>'


def _value_axis(chart: Chart, frame: Frame) -> Iterator[str]:
    ticks = (log_ticks if chart.is_log else linear_ticks)(*frame.values)
    right = WIDTH - RIGHT
    for tick in ticks:
        y = f"{frame.y(tick):.1f}"
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y}" y2="{y}"/>'
        yield _text(LEFT - 8, float(y) + 4, tick_label(tick, ticks), "end")
    middle = (frame.top + HEIGHT - BOTTOM) / 2
    turned = f'transform="rotate(-90 20 {middle:.0f})"'
    yield f'<text {turned} x="20" y="{middle:.0f}" text-anchor="middle">{escape(chart.axis)}</text>'


def _step_axis(frame: Frame) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    ticks = linear_ticks(*frame.steps)
    for tick in ticks:
        yield _text(frame.x(tick), bottom + 20, tick_label(tick, ticks), "middle")
    yield _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "step", "middle")


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(line: Line, frame: Frame) -> str:
    """The line; one that has a single point is a dot."""
    places = [f"{frame.x(step):.1f},{frame.y(value):.1f}" for step, value in line.points]
    if len(places) == 1:
        x, y = places[0].split(",")
        return f'<circle cx="{x}" cy="{y}" r="3" fill="{line.colour}"/>'
    return f'<polyline points="{" ".join(places)}" {_stroke(line)}/>'


def _stroke(line: Line) -> str:
    classes = ["line", *["dashed"] * line.is_dashed, *["faint"] * line.is_faint]
    return f'class="{" ".join(classes)}" stroke="{line.colour}"'
