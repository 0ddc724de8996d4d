"""Charts as SVG: lines, bars and confusion matrices in one frame, with one palette.

Drawn here and not by matplotlib, of which a run needs nothing else: its import takes 0.7 s and a
chart 0.08 s (here 0.01 s and 0.001 s of processor time), and its files are four times as large.

Colours are attributes, so that an image is complete by itself: dark on white. The report shows
charts in dark mode with inverted lightness. Text is kept as text, in a font of the reader.
"""

import math
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

# Okabe and Ito (2008): can be distinguished with any kind of colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# Width and height in pixels, where text has size 12: about half the width of the report.
SIZE = (560, 340)
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 544.0, 12.0, 296.0
_TITLE_HEIGHT, _LINE_HEIGHT, _LABEL_LINE_HEIGHT, _CHARACTER_WIDTH = 18, 18, 12, 6.6
_MAX_POINTS = 500
# Curves with at most this many points have a marker with a tooltip for each.
_MAX_MARKED = 40
_MAX_LABELS = 12
_BAR_WIDTH = 0.8  # of the distance between two bars

Curve = Sequence[tuple[float, float]]


def line_chart(
    curves: Mapping[str, Curve],
    x_label: str,
    y_label: str = "",
    *,
    title: str,
    dashed: Sequence[str] = (),
    from_zero: bool = False,
) -> str:
    """A line for each curve, and a legend if there are several.

    Args:
        curves: name -> points from left to right.
        dashed: names of the curves to draw dashed.
        from_zero: the vertical axis begins at 0.

    Raises:
        ValueError: no curve has a point.
    """
    curves = {name: thin_out(curve) for name, curve in curves.items()}
    points = [point for curve in curves.values() for point in curve]
    if not points:
        raise ValueError("no curve has a point")
    x_range = min(0.0, *(x for x, _ in points)), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    margin = 0.05 * (y_high - y_low) or 0.05 * abs(y_high) or 0.5
    y_range = 0.0 if from_zero else y_low - margin, y_high + margin
    legend = list(curves) if len(curves) > 1 else ()
    chart = _Chart(x_range, y_range, x_label, y_label, title, legend)
    chart.add_axes(with_x_ticks=True)
    for index, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        dashes = "6 4" if name in dashed else None
        line = {"stroke": colour, "stroke_width": 2, "stroke_dasharray": dashes}
        path = " ".join("{:.1f},{:.1f}".format(*chart.pixel(x, y)) for x, y in curve)
        chart.add("polyline", points=path, fill="none", **line)
        for x, y in curve if len(curve) <= _MAX_MARKED else ():
            across, up = chart.pixel(x, y)
            marker = chart.add("circle", cx=across, cy=up, r=3, fill=colour)
            SubElement(marker, "title").text = f"{name}: {y:.4g} at {x:g}"
        if legend:
            left, up = chart.keys[index]
            chart.add("path", d=f"M{left:.1f} {up:.1f}h24", **line)
            chart.add_text(left + 30, up + 4, name, "start")
    return chart.svg()


def thin_out(curve: Curve, max_points: int = _MAX_POINTS) -> Curve:
    """About `max_points` of a curve's points at most, evenly spaced, including the last one."""
    every = math.ceil(len(curve) / max_points)
    return curve if every <= 1 else [*curve[:-1:every], curve[-1]]


def bar_chart(
    names: Sequence[object],
    heights: Sequence[float],
    x_label: str,
    y_label: str,
    *,
    title: str,
    notes: Sequence[str] = (),
) -> str:
    """A bar for each name; names may have several lines.

    Args:
        heights: not negative.
        notes: a small text above each bar, or none at all.
    """
    # Each bar is in the middle of a step of the x axis.
    highest = 1.08 * max(heights, default=0.0) or 1.0
    lines = max((str(name).count("\n") + 1 for name in names), default=1)
    x_range, y_range = (0.0, len(names)), (0.0, highest)
    chart = _Chart(x_range, y_range, x_label, y_label, title, label_lines=lines)
    chart.add_axes()
    every = -(-len(names) // _MAX_LABELS) or 1
    for number, (name, height) in enumerate(zip(names, heights, strict=True)):
        left, top = chart.pixel(number + (1 - _BAR_WIDTH) / 2, height)
        right, bottom = chart.pixel(number + (1 + _BAR_WIDTH) / 2, 0.0)
        tooltip = f"{name}: {height:.4g}".replace("\n", "")
        SubElement(chart.add_box(left, top, right, bottom), "title").text = tooltip
        middle = (left + right) / 2
        if notes:
            chart.add_text(middle, top - 4, notes[number], font_size=10)
        if number % every == 0:
            for line, words in enumerate(str(name).split("\n")):
                y = chart.bottom + 14 + _LABEL_LINE_HEIGHT * line
                chart.add_text(middle, y, words, font_size=11 if len(names) < _MAX_LABELS else 10)
    return chart.svg()


def confusion_matrix(
    names: Sequence[str], counts: np.ndarray, x_label: str, y_label: str, *, title: str
) -> str:
    """Counts [row, column] as squares, the larger the darker; rows and columns have these names."""
    classes = len(names)
    chart = _Chart((0.0, classes), (classes, 0.0), x_label, y_label, title)
    for (row, column), count in np.ndenumerate(counts):
        left, top = chart.pixel(column, row)
        right, bottom = chart.pixel(column + 1, row + 1)
        opacity = f"{0.05 + 0.7 * count / max(counts.max(), 1):.3f}"
        chart.add_box(left, top, right, bottom, fill_opacity=opacity, stroke="white")
        chart.add_text((left + right) / 2, (top + bottom) / 2, f"{int(count):,}", font_size=16)
    for number, name in enumerate(names):
        x, y = chart.pixel(number + 0.5, number + 0.5)
        chart.add_text(x, chart.bottom + 18, name)
        chart.add_text(_LEFT - 10, y, name, transform=f"rotate(-90 {_LEFT - 10:.1f} {y:.1f})")
    return chart.svg()


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """About `count` multiples of 1, 2 or 5 times a power of ten between two values."""
    width = (high - low) or 1.0
    power = 10.0 ** math.floor(math.log10(width / count))
    step = next(power * factor for factor in (1, 2, 5, 10) if width / (power * factor) <= count)
    first, last = math.ceil(low / step), math.floor(high / step + 1e-6)
    return [round(number * step, 9) for number in range(first, last + 1)]


class _Chart:
    """An image with a white ground, a title and two labelled axes.

    Attributes:
        top, bottom: edges of the area inside the axes, in pixels.
        keys: positions of the legend's names.
    """

    def __init__(
        self,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        x_label: str,
        y_label: str,
        title: str,
        legend: Sequence[str] = (),
        label_lines: int = 1,
    ) -> None:
        """
        Args:
            x_range, y_range: the values at the edges of the area.
            legend: names of the curves, if they are to be shown.
            label_lines: lines of text per label below the x axis.
        """
        self._x_range, self._y_range = x_range, y_range
        self.bottom = _BOTTOM - (label_lines - 1) * _LABEL_LINE_HEIGHT
        self.keys: list[tuple[float, float]] = []
        x, y = _LEFT, _TOP + _TITLE_HEIGHT
        for name in legend:  # As many per line as fit.
            needed = 34 + _CHARACTER_WIDTH * len(name) + 14
            if x > _LEFT and x + needed > _RIGHT:
                x, y = _LEFT, y + _LINE_HEIGHT
            self.keys.append((x, y + 4))
            x += needed
        self.top = y + (_LINE_HEIGHT if legend else 0)
        width, height = SIZE
        attributes = {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {width} {height}",
            "font-family": "sans-serif",
            "font-size": "12",
            "fill": "currentColor",
            "role": "img",
            "aria-label": title,
        }
        self._root = Element("svg", attributes)
        self.add("title").text = title
        self.add("rect", width=width, height=height, fill="white")
        across, up = (_LEFT + _RIGHT) / 2, (self.top + self.bottom) / 2
        self.add_text(across, _TOP + 6, title, font_size=14)
        self.add_text(across, height - 8, x_label)
        if y_label:
            self.add_text(12, up, y_label, transform=f"rotate(-90 12 {up:.1f})")

    def add(self, tag: str, /, **attributes: object) -> Element:
        """Adds an element; `stroke_width` is written `stroke-width`, and None is left out."""
        added = SubElement(self._root, tag)
        for name, value in attributes.items():
            if value is not None:
                text = f"{value:.1f}" if isinstance(value, float) else str(value)
                added.set(name.replace("_", "-"), text)
        return added

    def add_text(
        self, x: float, y: float, content: str, anchor: str = "middle", **more: object
    ) -> None:
        self.add("text", x=x, y=y, text_anchor=anchor, **more).text = content

    def add_box(
        self, left: float, top: float, right: float, bottom: float, **more: object
    ) -> Element:
        width, height = right - left, bottom - top
        return self.add("rect", x=left, y=top, width=width, height=height, fill=COLOURS[0], **more)

    def add_axes(self, *, with_x_ticks: bool = False) -> None:
        """Adds numbers with lines across the chart, numbers below it, and the x axis."""
        for value in ticks(*self._y_range, 5):
            _, y = self.pixel(self._x_range[0], value)
            self.add("path", d=f"M{_LEFT:.1f} {y:.1f}H{_RIGHT:.1f}", stroke="#ddd")
            self.add_text(_LEFT - 6, y + 4, _short(value), "end")
        for value in ticks(*self._x_range) if with_x_ticks else ():
            x, _ = self.pixel(value, self._y_range[0])
            self.add("path", d=f"M{x:.1f} {self.bottom:.1f}v5", stroke="#888")
            self.add_text(x, self.bottom + 18, _short(value))
        self.add("path", d=f"M{_LEFT:.1f} {self.bottom:.1f}H{_RIGHT:.1f}", stroke="#888")

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """The position of a point."""
        (x_low, x_high), (y_low, y_high) = self._x_range, self._y_range
        across = (x - x_low) / ((x_high - x_low) or 1.0)
        up = (y - y_low) / ((y_high - y_low) or 1.0)
        return _LEFT + across * (_RIGHT - _LEFT), self.bottom - up * (self.bottom - self.top)

    def svg(self) -> str:
        """The image, one element per line."""
        indent(self._root)
        return tostring(self._root, encoding="unicode") + "\n"


def _short(value: float) -> str:
    """A number as the label of a tick."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:g}"
