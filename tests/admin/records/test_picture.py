"""Charts as files: SVG and HTML without a library, PNG by matplotlib."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from admin.records.chart import Chart, Line
from admin.records.errors import ChartLibraryMissing, RecordError
from admin.records.picture import write_chart
from admin.records.svg import HEIGHT, WIDTH

SVG = "{http://www.w3.org/2000/svg}"
CHART = Chart(
    "a <b> & </script>",
    "loss (nats per token)",
    [
        Line("one", [(1, 4.0), (2, 3.0), (3, 3.5)], "#0072b2", is_faint=True),
        Line("one", [(1, 4.0), (2, 3.5), (3, 3.5)], "#0072b2"),
        Line("one </script> (validation)", [(3, 3.0)], "#0072b2", is_dashed=True),
    ],
)


def drawn(tmp_path: Path, name: str, chart: Chart = CHART) -> Path:
    write_chart(chart, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("is_log", [False, True])
def test_svg_shows_every_point_within_its_frame(tmp_path: Path, is_log: bool) -> None:
    """Higher values stand higher, later steps further right, a single point is a dot."""
    chart = Chart(CHART.title, CHART.axis, CHART.lines, is_log)
    root = ET.parse(drawn(tmp_path, "chart.svg", chart)).getroot()
    faint, line = (
        [tuple(map(float, pair.split(","))) for pair in one.attrib["points"].split()]
        for one in root.iter(f"{SVG}polyline")
    )

    for x, y in [*faint, *line]:
        assert 0 < x < WIDTH
        assert 0 < y < HEIGHT
    assert faint[0][0] < faint[1][0] < faint[2][0]
    assert faint[1][1] > faint[2][1] > faint[0][1]
    assert len(list(root.iter(f"{SVG}circle"))) == 1


def test_svg_names_what_it_shows(tmp_path: Path) -> None:
    """Title, both axes, and a legend without the faint line; and all of it as one label."""
    root = ET.parse(drawn(tmp_path, "chart.svg")).getroot()
    texts = [one.text for one in root.iter(f"{SVG}text")]

    assert texts[:3] == ["a <b> & </script>", "one", "one </script> (validation)"]
    assert {"step", "loss (nats per token)", "3.0", "4.0"} <= set(texts)
    assert root.attrib["aria-label"] == "loss (nats per token) over steps: a <b> & </script>"


def test_html_is_one_page_with_the_values(tmp_path: Path) -> None:
    """Nothing is fetched, nothing in a name ends the script, and the page's data are exact."""
    page = drawn(tmp_path, "chart.HTML").read_text(encoding="utf-8")
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page)

    assert page.count("</script>") == 2
    assert "{{" not in page
    assert re.findall(r"https?://[^\"]+", page) == ["http://www.w3.org/2000/svg"] * 2
    assert json.loads(data)["lines"] == [
        {"label": "one", "points": [[1, 4.0], [2, 3.5], [3, 3.5]]},
        {"label": "one </script> (validation)", "points": [[3, 3.0]]},
    ]


def test_png_is_drawn_where_matplotlib_is(tmp_path: Path) -> None:
    """A picture of the size that the SVG has, larger for sharp print."""
    data = drawn(tmp_path, "chart.png").read_bytes()

    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = (int.from_bytes(data[at : at + 4]) for at in (16, 20))
    assert width / height == pytest.approx(WIDTH / HEIGHT)


def test_png_without_matplotlib_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And which names need nothing."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)

    with pytest.raises(ChartLibraryMissing, match=r"pip install matplotlib.*\.svg"):
        write_chart(CHART, tmp_path / "chart.png")
    assert not (tmp_path / "chart.png").exists()


@pytest.mark.parametrize("name", ["chart.gif", "chart", "nowhere/chart.svg"])
def test_what_cannot_be_written_is_one_message(tmp_path: Path, name: str) -> None:
    """An unknown ending, or no directory."""
    with pytest.raises(RecordError, match=r"ends in \.svg|could not be written"):
        write_chart(CHART, tmp_path / name)
