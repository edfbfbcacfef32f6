"""A chart as PNG, drawn by matplotlib where it is installed."""

from __future__ import annotations

import io

from admin.records.chart import Chart
from admin.records.errors import ChartLibraryMissing

DPI = 160


def png(chart: Chart) -> bytes:
    """The picture's bytes.

    Raises:
        ChartLibraryMissing: there is no matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ChartLibraryMissing from None
    figure = Figure(figsize=(9.6, 5.4), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    for line in chart.lines:
        axes.plot(
            [step for step, _ in line.points],
            [value for _, value in line.points],
            color=line.colour,
            linestyle="--" if line.is_dashed else "-",
            marker="o" if len(line.points) == 1 else "",
            alpha=0.25 if line.is_faint else 1.0,
            label="_" if line.is_faint else line.label,
        )
    axes.set(title=chart.title, xlabel="step", ylabel=chart.axis, ylim=chart.values)
    axes.set_yscale("log" if chart.is_log else "linear")
    axes.grid(alpha=0.3)
    axes.legend()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    return drawn.getvalue()
