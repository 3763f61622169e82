"""The plots as XML: a mark for every value, at the right height."""

import xml.etree.ElementTree as ET

import pytest

from payerseg.evaluation.evaluation_report import bar_chart, strip_chart

SVG = "{http://www.w3.org/2000/svg}"


def test_bars():
    tree = ET.fromstring(bar_chart("a < b", {"L1": (1, 2), "C7": (3, 3), "T5": (0, 0)}))
    bars = tree.findall(f"{SVG}rect")
    assert [bar.find(f"{SVG}title").text for bar in bars] == ["C7: 3 of 3", "L1: 1 of 2"]
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[0] == pytest.approx(2 * heights[1])


def test_strips():
    values = {"L1": [("x & y", 0.5), ("z", 1.0)], "T12": []}
    tree = ET.fromstring(strip_chart("Dice", values, (0.0, 1.0)))
    dots = tree.findall(f"{SVG}circle")
    assert [dot.find(f"{SVG}title").text for dot in dots] == ["x & y L1: 0.5", "z L1: 1"]
    low, high = (float(dot.get("cy")) for dot in dots)
    assert low > high


@pytest.mark.parametrize(("largest", "axis"), [(0.7, "0.8"), (1.0, "1"), (3.1, "4"), (17, "20")])
def test_axis_ends_at_a_short_number(largest, axis):
    tree = ET.fromstring(strip_chart("mm", {"L1": [("a", largest)]}))
    ticks = [t.text for t in tree.findall(f"{SVG}text") if t.get("class") == "tick"]
    assert ticks[-1] == axis


@pytest.mark.parametrize("chart", [strip_chart("mm", {}), bar_chart("mm", {})])
def test_with_nothing_to_draw_there_are_axes_and_a_title_but_no_marks(chart):
    tree = ET.fromstring(chart)
    assert "mm" in [text.text for text in tree.findall(f"{SVG}text")]
    assert tree.findall(f"{SVG}circle") == tree.findall(f"{SVG}rect") == []
    assert "nan" not in chart
