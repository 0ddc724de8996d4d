"""Line charts as SVG elements, without a library.

Colours are attributes, so that the image is complete by itself. Elements also have classes (line0,
area0, grid, ground), so that a page can give them its own colours.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element, tostring

from lib.report.markup import element

_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 44
_LEGEND_LINE, _CHARACTER = 18, 6.6
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b")
# Curves with at most this many points have a marker with a tooltip for each.
_MAX_MARKED = 40

Curve = Sequence[tuple[float, float]]


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers between two values: steps of 1, 2 or 5 times a power of ten."""
    step = 10.0**-9
    factors = (2, 2.5, 2)
    number = 0
    while (high - low) / step > count:
        step *= factors[number % 3]
        number += 1
    first = -(-low // step)
    return [
        round((first + index) * step, 9)
        for index in range(count + 1)
        if (first + index) * step <= high + step / 1e6
    ]


def _short(value: float) -> str:
    """A number as the label of a tick."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:g}"


def _text(x: float, y: float, words: str, anchor: str = "middle", **more: object) -> Element:
    position = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text_anchor": anchor, "fill": "currentColor"}
    return element("text", words, **{**position, **more})


def _legend(names: Sequence[str], width: float) -> Iterator[tuple[str, float, int]]:
    """Each name with its x coordinate and its line: as many per line as fit."""
    x, line = 0.0, 0
    for name in names:
        needed = 34 + _CHARACTER * len(name) + 14
        if x and x + needed > width:
            x, line = 0.0, line + 1
        yield name, x, line
        x += needed


def chart(
    curves: Mapping[str, Curve],
    x_label: str,
    y_label: str = "",
    *,
    title: str = "",
    dashed: Sequence[str] = (),
    filled: bool = False,
    size: tuple[int, int] = (720, 420),
) -> Element:
    """A chart with a line for each curve, and a legend if there are several.

    Args:
        curves: name -> points from left to right.
        dashed: names of the curves to draw dashed.
        filled: fill the area down to zero, for distributions.
        size: width and height, where text has size 12.

    Raises:
        ValueError: no curve has a point.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points:
        raise ValueError("no curve has a point")
    width, height = size
    x_low, x_high = min(0.0, *(x for x, _ in points)), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    margin = 0.05 * (y_high - y_low) or 0.05 * abs(y_high) or 0.5
    y_low, y_high = 0.0 if filled else y_low - margin, y_high + margin
    names = list(_legend(list(curves), width - _LEFT - _RIGHT)) if len(curves) > 1 else []
    head = _TOP + (18 if title else 0)
    top = head + _LEGEND_LINE * (names[-1][2] + 1 if names else 0)
    left, right, bottom = float(_LEFT), float(width - _RIGHT), float(height - _BOTTOM)

    def pixel(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / ((x_high - x_low) or 1.0)
        up = (y - y_low) / (y_high - y_low)
        return left + across * (right - left), bottom - up * (bottom - top)

    parts = [element("rect", width=width, height=height, fill="white", class_="ground")]
    if title:
        parts.append(_text((left + right) / 2, _TOP + 6, title, font_size=14))
    parts.append(_text((left + right) / 2, height - 8, x_label))
    if y_label:
        middle = (top + bottom) / 2
        turned = f"rotate(-90 12 {middle:.1f})"
        parts.append(_text(12, middle, y_label, transform=turned))
    for value in ticks(y_low, y_high, 5):
        _, y = pixel(x_low, value)
        parts.append(
            element("path", d=f"M{left:.1f} {y:.1f}H{right:.1f}", stroke="#ddd", class_="grid")
        )
        parts.append(_text(left - 6, y + 4, _short(value), "end"))
    for value in ticks(x_low, x_high):
        x, _ = pixel(value, y_low)
        parts.append(element("path", d=f"M{x:.1f} {bottom:.1f}v5", stroke="#888"))
        parts.append(_text(x, bottom + 18, _short(value)))
    parts.append(element("path", d=f"M{left:.1f} {bottom:.1f}H{right:.1f}", stroke="#888"))
    for index, (name, curve) in enumerate(curves.items()):
        colour, kind = _COLOURS[index % len(_COLOURS)], index % len(_COLOURS)
        dash = "6 4" if name in dashed else None
        line = " ".join("{:.1f},{:.1f}".format(*pixel(x, y)) for x, y in curve)
        if filled and curve:
            ends = (pixel(x, 0.0) for x in (curve[-1][0], curve[0][0]))
            under = " ".join("{:.1f},{:.1f}".format(*end) for end in ends)
            parts.append(
                element(
                    "polygon",
                    points=f"{line} {under}",
                    fill=colour,
                    fill_opacity=0.2,
                    class_=f"area{kind}",
                )
            )
        drawn = {"stroke": colour, "stroke_width": 2, "stroke_dasharray": dash}
        parts.append(element("polyline", points=line, fill="none", class_=f"line{kind}", **drawn))
        for x, y in curve if len(curve) <= _MAX_MARKED and not filled else ():
            across, up = pixel(x, y)
            tooltip = element("title", f"{name}: {y:.4g} at {x:g}")
            dot = {"cx": f"{across:.1f}", "cy": f"{up:.1f}", "r": 3, "fill": colour}
            parts.append(element("circle", tooltip, class_=f"area{kind}", **dot))
        if names:
            _, x, line_number = names[index]
            y = head + _LEGEND_LINE * line_number + 4
            parts.append(
                element("path", d=f"M{left + x:.1f} {y}h24", class_=f"line{kind}", **drawn)
            )
            parts.append(_text(left + x + 30, y + 4, name, "start"))
    return element(
        "svg",
        parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        font_family="sans-serif",
        font_size=12,
        role="img",
        aria_label=title or y_label or ", ".join(curves),
    )


def svg(
    title: str, x_label: str, y_label: str, curves: Mapping[str, Curve], dashed: Sequence[str] = ()
) -> str:
    """A `chart` with a title, as the content of an SVG file."""
    image = chart(curves, x_label, y_label, title=title, dashed=dashed)
    return tostring(image, encoding="unicode") + "\n"


def thin_out(curve: Curve, max_points: int = 500) -> Curve:
    """About `max_points` of a curve's points at most, evenly spaced, including the last one."""
    every = math.ceil(len(curve) / max_points)
    return curve if every <= 1 else [*curve[:-1:every], curve[-1]]
