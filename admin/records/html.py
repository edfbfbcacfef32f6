"""A chart as one HTML page without anything from elsewhere: the SVG, and values to point at."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path

from admin.records.chart import Chart
from admin.records.svg import WIDTH, frame_of, svg

PAGE = Path(__file__).with_name("chart.html")


def html(chart: Chart) -> str:
    """A whole page."""
    frame = frame_of(chart)
    shown = [line for line in chart.lines if not line.is_faint]
    data = {
        "width": WIDTH,
        "steps": chart.steps,
        "left": frame.x(chart.steps[0]),
        "right": frame.x(chart.steps[1]),
        "top": frame.top,
        "bottom": frame.y(chart.values[0]),
        "lines": [{"label": line.label, "points": line.points} for line in shown],
    }
    parts = {
        "title": escape(chart.title),
        "svg": svg(chart),
        "data": json.dumps(data).replace("<", "\\u003c"),  # nothing in it can end the script
    }
    page = PAGE.read_text(encoding="utf-8")
    for name, part in parts.items():
        page = page.replace(f"{{{{{name}}}}}", part)
    return page
