"""Charts: well-formed SVG whose bars are the numbers."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data.chart import BARS, Panel, bars, histogram_svg
from training.data.stats import Distribution

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str) -> list[tuple[str, float]]:
    """What each bar says, and how high it is."""
    found = []
    for rect in ET.fromstring(svg).iter(f"{SVG}rect"):
        title = rect.find(f"{SVG}title")
        if title is not None and title.text:
            found.append((title.text, float(rect.attrib["height"])))
    return found


def test_bars_are_as_high_as_their_numbers() -> None:
    """One a value where there are few, each saying what it stands for."""
    svg = histogram_svg([Panel("Turns <of> a dialogue", Distribution.of(np.array([0, 0, 50, 25])))])
    assert [text for text, _ in drawn(svg)] == [
        "0 to 0: 0",
        "1 to 1: 0",
        "2 to 2: 50",
        "3 to 3: 25",
    ]
    heights = [height for _, height in drawn(svg)]
    assert heights[2] == pytest.approx(2 * heights[3])
    text = "".join(ET.fromstring(svg).itertext())
    assert "Turns <of> a dialogue" in text
    assert "mean 2.3, p50 2, p90 3, p99 3, greatest 3" in text


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=50))
def test_no_number_is_left_out(numbers: list[int]) -> None:
    """However many there are and however far apart, every one lies in a bar."""
    found = bars(Distribution.of(np.bincount(numbers)))
    assert len(found) <= BARS
    assert [bar.many for bar in found] == [
        sum(bar.low <= number <= bar.high for number in numbers) for bar in found
    ]
    assert sum(bar.many for bar in found) == len(numbers)


def test_a_few_far_ones_do_not_flatten_the_rest() -> None:
    """The last bar holds them."""
    counts = np.zeros(10_001, int)
    counts[:10], counts[10_000] = 1000, 1
    found = bars(Distribution.of(counts))
    assert [bar.many for bar in found] == [1000] * 9 + [1001]
    assert found[-1].high == 10_000


def test_an_empty_distribution_can_be_drawn() -> None:
    """As an empty panel."""
    assert drawn(histogram_svg([Panel("Nothing", Distribution.of(np.zeros(1, int)))])) == []
