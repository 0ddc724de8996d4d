"""Charts: well-formed SVG with everything in it, the same bytes every time."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest

from lib.report.charts.axes import svg_file
from lib.report.charts.bars import bar_chart, confusion_matrix
from lib.report.charts.lines import line_chart

SVG = "{http://www.w3.org/2000/svg}"
CHARTS = {
    "lines": lambda: line_chart(
        {"a": [(1, 3), (2, 4)], "b": [(1, 2)]}, "x", "y", title="Loss & <more>"
    ),
    "filled": lambda: line_chart({"a": [(1, 3), (2, 4)]}, "x", filled=True, size=(440, 250)),
    "bars": lambda: bar_chart(
        ["1-\n9", "10-\n99"], [2.0, 3.0], "x", "y", title="Loss & <more>", notes=["5", "6"]
    ),
    "empty bars": lambda: bar_chart([], [], "x", "y", title="Loss & <more>"),
    "matrix": lambda: confusion_matrix(
        ("one", "two"), np.array([[1, 2], [3, 4000]]), "x", "y", title="Loss & <more>"
    ),
    "no pairs": lambda: confusion_matrix(("one", "two"), np.zeros((2, 2), int), "x", "y"),
}


def texts(root: Element) -> list[str]:
    return [each.text or "" for each in root.iter(f"{SVG}text")]


def positions(root: Element) -> list[float]:
    """Every coordinate of texts and rectangles, and of the points of curves."""
    found = []
    for each in root.iter():
        found += [float(each.attrib[key]) for key in ("x", "y", "cx", "cy") if key in each.attrib]
        found += [float(x) for point in each.get("points", "").split() for x in point.split(",")]
    return found


@pytest.mark.parametrize("name", CHARTS)
def test_charts_are_well_formed_reproducible_and_within_the_image(name):
    content = svg_file(CHARTS[name]())
    assert content == svg_file(CHARTS[name]())
    root = ElementTree.fromstring(content)
    width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])
    assert all(0 <= value <= max(width, height) for value in positions(root))
    if "title" in root.attrib["aria-label"]:
        assert root.findtext(f"{SVG}title") == "Loss & <more>"


def test_texts_and_notes_of_bars_are_shown():
    root = ElementTree.fromstring(svg_file(CHARTS["bars"]()))
    assert {"Loss & <more>", "x", "y", "1-", "9", "10-", "99", "5", "6"} <= set(texts(root))
    low, high = (
        float(each.attrib["height"]) for each in root.iter(f"{SVG}rect") if "x" in each.attrib
    )
    assert high / low == pytest.approx(1.5, rel=0.01)


def test_the_names_of_many_bars_are_thinned():
    chart = bar_chart(range(100, 164), [1.0] * 64, "x", "y")
    root = ElementTree.fromstring(svg_file(chart))
    assert 8 <= sum(each.startswith("1") and len(each) == 3 for each in texts(root)) <= 12


def test_rows_of_a_confusion_matrix_are_read_from_the_top():
    root = ElementTree.fromstring(svg_file(CHARTS["matrix"]()))
    at = {
        each.text: (float(each.attrib["x"]), float(each.attrib["y"]))
        for each in root.iter(f"{SVG}text")
    }
    (x1, y1), (x2, y2), (x3, y3) = at["1"], at["2"], at["3"]
    assert x1 < x2 and y1 == y2 and x1 == x3 and y1 < y3
    assert "4,000" in at
