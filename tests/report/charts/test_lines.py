"""Line charts: axis ticks, and curves within the image."""

from xml.etree import ElementTree

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lib.report.charts.axes import SIZE, svg_file, ticks
from lib.report.charts.lines import line_chart, thin_out


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e4))
def test_ticks_are_few_even_and_within(low, width):
    found = ticks(low, low + width)
    assert 1 <= len(found) <= 7
    assert all(low - 1e-6 <= value <= low + width + 1e-6 * width + 1e-6 for value in found)
    assert np.allclose(np.diff(found, 2), 0, atol=1e-6)


def test_curves_stay_within_the_image():
    curves = {"one & all": [(1.0, 9.0), (2.0, 5.0), (3.0, 4.5)], "two": [(1.0, 8.0), (3.0, 4.0)]}
    image = ElementTree.fromstring(
        svg_file(line_chart(curves, "minutes", "loss", title="t", dashed=["two"]))
    )
    space = "{http://www.w3.org/2000/svg}"
    lines = [
        [tuple(map(float, point.split(","))) for point in line.get("points", "").split()]
        for line in image.findall(f"{space}polyline")
    ]
    assert [len(line) for line in lines] == [3, 2]
    # A lower loss is lower in the image, and equal minutes have the same x.
    assert lines[0][0][1] < lines[0][1][1] < lines[0][2][1] < lines[1][1][1]
    assert lines[0][0][0] == lines[1][0][0] and lines[0][2][0] == lines[1][1][0]
    assert all(0 < x < SIZE[0] and 0 < y < SIZE[1] for line in lines for x, y in line)
    assert "one & all" in [text.text for text in image.findall(f"{space}text")]


def test_long_curves_are_thinned_and_keep_their_last_point():
    curve = [(float(x), 0.0) for x in range(1234)]
    thinned = thin_out(curve)
    assert len(thinned) <= 501 and thinned[-1] == curve[-1] and thinned[0] == curve[0]
