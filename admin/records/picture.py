"""Charts as files, by what their names end in."""

from __future__ import annotations

from pathlib import Path

from admin.records.chart import Chart
from admin.records.errors import RecordError


def write_chart(chart: Chart, path: Path) -> None:
    """Draw ``chart`` into ``path``, which ends in .svg, .html or .png.

    Raises:
        RecordError: it ends in something else, PNG cannot be drawn here, or the file not written.
    """
    kind = path.suffix.lower()
    if kind == ".svg":
        from admin.records.svg import svg

        drawn = svg(chart).encode()
    elif kind == ".html":
        from admin.records.html import html

        drawn = html(chart).encode()
    elif kind == ".png":
        from admin.records.png import png

        drawn = png(chart)
    else:
        raise RecordError(f"{path}: a chart's name ends in .svg, .html or .png.")
    try:
        path.write_bytes(drawn)
    except OSError as error:
        raise RecordError(f"The chart could not be written: {error}") from error
