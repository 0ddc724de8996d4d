"""Charts: well-formed SVG with everything in it, the same bytes every time."""

from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.report.charts.svg import SIZE, bar_chart, confusion_matrix, line_chart, thin_out, ticks

SVG = "{http://www.w3.org/2000/svg}"
CHARTS = {
    "lines": lambda: line_chart(
        {"a": [(1, 3), (2, 4)], "b": [(1, 2)]}, "x", "y", title="Loss & <more>"
    ),
    "from zero": lambda: line_chart({"a": [(1, 3), (2, 4)]}, "x", title="t", from_zero=True),
    "one point": lambda: line_chart({"a": [(0, 0)]}, "x", title="t"),
    "bars": lambda: bar_chart(
        ["1-\n9", "10-\n99"], [2.0, 3.0], "x", "y", title="Loss & <more>", notes=["5", "6"]
    ),
    "empty bars": lambda: bar_chart([], [], "x", "y", title="Loss & <more>"),
    "matrix": lambda: confusion_matrix(
        ("one", "two"), np.array([[1, 2], [3, 4000]]), "x", "y", title="Loss & <more>"
    ),
    "no pairs": lambda: confusion_matrix(
        ("one", "two"), np.zeros((2, 2), int), "x", "y", title="t"
    ),
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
    content = CHARTS[name]()
    assert content == CHARTS[name]()
    root = ElementTree.fromstring(content)
    width, height = (float(value) for value in root.attrib["viewBox"].split()[2:])
    assert all(0 <= value <= max(width, height) for value in positions(root))
    title = root.findtext(f"{SVG}title")
    assert title in ("Loss & <more>", "t") and title in texts(root)
    assert root.attrib["aria-label"] == title


def test_texts_and_notes_of_bars_are_shown():
    root = ElementTree.fromstring(CHARTS["bars"]())
    assert {"Loss & <more>", "x", "y", "1-", "9", "10-", "99", "5", "6"} <= set(texts(root))
    low, high = (
        float(each.attrib["height"]) for each in root.iter(f"{SVG}rect") if "x" in each.attrib
    )
    assert high / low == pytest.approx(1.5, rel=0.01)


def test_the_names_of_many_bars_are_thinned():
    root = ElementTree.fromstring(bar_chart(range(100, 164), [1.0] * 64, "x", "y", title="t"))
    assert 8 <= sum(each.startswith("1") and len(each) == 3 for each in texts(root)) <= 12


def test_rows_of_a_confusion_matrix_are_read_from_the_top():
    root = ElementTree.fromstring(CHARTS["matrix"]())
    at = {
        each.text: (float(each.attrib["x"]), float(each.attrib["y"]))
        for each in root.iter(f"{SVG}text")
    }
    (x1, y1), (x2, y2), (x3, y3) = at["1"], at["2"], at["3"]
    assert x1 < x2 and y1 == y2 and x1 == x3 and y1 < y3
    assert "4,000" in at


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e4))
def test_ticks_are_few_even_and_within(low, width):
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 <= value <= low + width + 1e-6 * width + 1e-6 for value in found)
    assert np.allclose(np.diff(found, 2), 0, atol=1e-6)


def test_curves_stay_within_the_image():
    curves = {"one & all": [(1.0, 9.0), (2.0, 5.0), (3.0, 4.5)], "two": [(1.0, 8.0), (3.0, 4.0)]}
    image = ElementTree.fromstring(line_chart(curves, "minutes", "loss", title="t", dashed=["two"]))
    lines = [
        [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
        for line in image.findall(f"{SVG}polyline")
    ]
    assert [len(line) for line in lines] == [3, 2]
    # A lower loss is lower in the image, and equal minutes have the same x.
    assert lines[0][0][1] < lines[0][1][1] < lines[0][2][1] < lines[1][1][1]
    assert lines[0][0][0] == lines[1][0][0] and lines[0][2][0] == lines[1][1][0]
    assert all(0 < x < SIZE[0] and 0 < y < SIZE[1] for line in lines for x, y in line)
    assert "one & all" in [text.text for text in image.findall(f"{SVG}text")]


def test_long_curves_are_thinned_and_keep_their_last_point():
    curve = [(float(x), 0.0) for x in range(1234)]
    thinned = thin_out(curve)
    assert len(thinned) <= 501 and thinned[-1] == curve[-1] and thinned[0] == curve[0]
