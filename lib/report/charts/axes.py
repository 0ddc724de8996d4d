"""Parts of all charts: SVG elements for background, title, axes, ticks and legend.

Charts are drawn without a library: the report loads nothing, and the same data give the same bytes
on any machine. Text is kept as text and shown in a font of the reader. Colours are attributes, so
that an image is complete by itself. Elements also have classes (line0, area0, grid, ground), so
that the report can give them its own colours, light or dark.
"""

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element, indent, tostring

from lib.report.markup import Child, element

# Okabe and Ito (2008): can be distinguished with any kind of colour vision.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
# Width and height in pixels, where text has size 12: about half the width of the report.
SIZE = (560, 340)
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 44
_TITLE_HEIGHT, LINE_HEIGHT, LABEL_LINE_HEIGHT, _CHARACTER_WIDTH = 18, 18, 12, 6.6


def ticks(low: float, high: float, count: int = 6) -> list[float]:
    """Round numbers between two values: multiples of 1, 2 or 5 times a power of ten."""
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


def text(x: float, y: float, content: Child, anchor: str = "middle", **more: object) -> Element:
    position = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text_anchor": anchor, "fill": "currentColor"}
    return element("text", content, **{**position, **more})


class Axes:
    """The area of a chart: converts values to pixels, and collects elements.

    Attributes:
        left, right, top, bottom: edges of the area, in pixels.
        parts: the elements of the image so far.
    """

    def __init__(
        self,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        title: str = "",
        legend: Sequence[str] = (),
        size: tuple[int, int] = SIZE,
        label_lines: int = 1,
    ) -> None:
        """
        Args:
            x_range, y_range: the values at the edges.
            legend: names of the curves, if they are to be shown.
            label_lines: lines of text per label below the x axis.
        """
        self._size, self._title = size, title
        self._x_range, self._y_range = x_range, y_range
        width, height = size
        self.left, self.right = float(_LEFT), float(width - _RIGHT)
        self.bottom = height - _BOTTOM - (label_lines - 1) * LABEL_LINE_HEIGHT
        self._head = _TOP + (_TITLE_HEIGHT if title else 0)
        self.legend = list(self._legend(legend))
        lines = self.legend[-1][1] // LINE_HEIGHT + 1 if legend else 0
        self.legend = [(x, self._head + y + 4) for x, y in self.legend]
        self.top = self._head + LINE_HEIGHT * lines
        self.parts = [element("rect", width=width, height=height, fill="white", class_="ground")]
        if title:
            middle = (self.left + self.right) / 2
            self.parts.append(text(middle, _TOP + 6, title, font_size=14))

    def _legend(self, names: Sequence[str]) -> Iterator[tuple[float, int]]:
        """Positions of the legend's names, from the top left, as many per line as fit."""
        x, y = 0.0, 0
        for name in names:
            needed = 34 + _CHARACTER_WIDTH * len(name) + 14
            if x and x + needed > self.right - self.left:
                x, y = 0.0, y + LINE_HEIGHT
            yield self.left + x, y
            x += needed

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        """The position of a point."""
        (x_low, x_high), (y_low, y_high) = self._x_range, self._y_range
        across = (x - x_low) / ((x_high - x_low) or 1.0)
        up = (y - y_low) / ((y_high - y_low) or 1.0)
        return (
            self.left + across * (self.right - self.left),
            self.bottom - up * (self.bottom - self.top),
        )

    def add(self, *parts: Element) -> None:
        self.parts += parts

    def add_labels(self, x_label: str, y_label: str) -> None:
        """Adds the labels of the axes."""
        self.add(text((self.left + self.right) / 2, self._size[1] - 8, x_label))
        if y_label:
            middle = (self.top + self.bottom) / 2
            self.add(text(12, middle, y_label, transform=f"rotate(-90 12 {middle:.1f})"))

    def add_y_ticks(self) -> None:
        """Adds numbers on the left, and lines across the chart."""
        for value in ticks(*self._y_range, 5):
            _, y = self.pixel(self._x_range[0], value)
            line = f"M{self.left:.1f} {y:.1f}H{self.right:.1f}"
            self.add(element("path", d=line, stroke="#ddd", class_="grid"))
            self.add(text(self.left - 6, y + 4, _short(value), "end"))

    def add_x_ticks(self) -> None:
        """Adds numbers below the chart."""
        for value in ticks(*self._x_range):
            x, _ = self.pixel(value, self._y_range[0])
            self.add(element("path", d=f"M{x:.1f} {self.bottom:.1f}v5", stroke="#888"))
            self.add(text(x, self.bottom + 18, _short(value)))

    def add_x_axis(self) -> None:
        line = f"M{self.left:.1f} {self.bottom:.1f}H{self.right:.1f}"
        self.add(element("path", d=line, stroke="#888"))

    def image(self, label: str) -> Element:
        """The whole image; `label` describes it if it has no title."""
        width, height = self._size
        return element(
            "svg",
            element("title", self._title) if self._title else None,
            self.parts,
            xmlns="http://www.w3.org/2000/svg",
            viewBox=f"0 0 {width} {height}",
            font_family="sans-serif",
            font_size=12,
            role="img",
            aria_label=self._title or label,
        )


def _short(value: float) -> str:
    """A number as the label of a tick."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:g}"


def svg_file(image: Element) -> str:
    """An image as the content of an SVG file, one element per line."""
    indent(image)
    return tostring(image, encoding="unicode") + "\n"
