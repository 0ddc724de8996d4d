"""Line charts."""

import math
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from lib.report.charts.axes import COLOURS, SIZE, Axes, text
from lib.report.markup import element

# Curves with at most this many points have a marker with a tooltip for each.
_MAX_MARKED = 40

Curve = Sequence[tuple[float, float]]


def line_chart(
    curves: Mapping[str, Curve],
    x_label: str,
    y_label: str = "",
    *,
    title: str = "",
    dashed: Sequence[str] = (),
    filled: bool = False,
    size: tuple[int, int] = SIZE,
) -> Element:
    """A chart with a line for each curve, and a legend if there are several.

    Args:
        curves: name -> points from left to right.
        dashed: names of the curves to draw dashed.
        filled: fill the area down to zero, for distributions.

    Raises:
        ValueError: no curve has a point.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points:
        raise ValueError("no curve has a point")
    x_range = min(0.0, *(x for x, _ in points)), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    margin = 0.05 * (y_high - y_low) or 0.05 * abs(y_high) or 0.5
    y_range = 0.0 if filled else y_low - margin, y_high + margin
    axes = Axes(x_range, y_range, title, list(curves) if len(curves) > 1 else (), size)
    axes.add_labels(x_label, y_label)
    axes.add_y_ticks()
    axes.add_x_ticks()
    axes.add_x_axis()
    for index, (name, curve) in enumerate(curves.items()):
        kind = index % len(COLOURS)
        line = {
            "stroke": COLOURS[kind],
            "stroke_width": 2,
            "stroke_dasharray": "6 4" if name in dashed else None,
            "class_": f"line{kind}",
        }
        area = {"fill": COLOURS[kind], "class_": f"area{kind}"}
        path = " ".join("{:.1f},{:.1f}".format(*axes.pixel(x, y)) for x, y in curve)
        if filled and curve:
            ends = (axes.pixel(x, 0.0) for x in (curve[-1][0], curve[0][0]))
            under = " ".join("{:.1f},{:.1f}".format(*end) for end in ends)
            axes.add(element("polygon", points=f"{path} {under}", fill_opacity=0.2, **area))
        axes.add(element("polyline", points=path, fill="none", **line))
        for x, y in curve if len(curve) <= _MAX_MARKED and not filled else ():
            across, up = axes.pixel(x, y)
            tooltip = element("title", f"{name}: {y:.4g} at {x:g}")
            axes.add(element("circle", tooltip, cx=f"{across:.1f}", cy=f"{up:.1f}", r=3, **area))
        if axes.legend:
            left, up = axes.legend[index]
            axes.add(element("path", d=f"M{left:.1f} {up}h24", **line))
            axes.add(text(left + 30, up + 4, name, "start"))
    return axes.image(y_label or ", ".join(curves))


def thin_out(curve: Curve, max_points: int = 500) -> Curve:
    """About `max_points` of a curve's points at most, evenly spaced, including the last one."""
    every = math.ceil(len(curve) / max_points)
    return curve if every <= 1 else [*curve[:-1:every], curve[-1]]
