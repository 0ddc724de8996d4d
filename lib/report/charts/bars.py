"""Bar charts and confusion matrices."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from lib.report.charts.axes import COLOURS, LABEL_LINE_HEIGHT, SIZE, Axes, text
from lib.report.markup import element

_MAX_LABELS = 12
_BAR_WIDTH = 0.8  # of the distance between two bars


def bar_chart(
    names: Sequence[object],
    heights: Sequence[float],
    x_label: str,
    y_label: str,
    *,
    title: str = "",
    notes: Sequence[str] = (),
    size: tuple[int, int] = SIZE,
) -> Element:
    """A bar for each name; names may have several lines.

    Args:
        heights: not negative.
        notes: a small text above each bar, or none at all.
    """
    # Each bar is in the middle of a step of the x axis.
    highest = 1.08 * max(heights, default=0.0) or 1.0
    lines = max((str(name).count("\n") + 1 for name in names), default=1)
    axes = Axes((0.0, len(names)), (0.0, highest), title, (), size, lines)
    axes.add_labels(x_label, y_label)
    axes.add_y_ticks()
    every = -(-len(names) // _MAX_LABELS) or 1
    for number, (name, height) in enumerate(zip(names, heights, strict=True)):
        left, top = axes.pixel(number + (1 - _BAR_WIDTH) / 2, height)
        right, bottom = axes.pixel(number + (1 + _BAR_WIDTH) / 2, 0.0)
        axes.add(
            element(
                "rect",
                element("title", f"{name}: {height:.4g}".replace("\n", "")),
                x=f"{left:.1f}",
                y=f"{top:.1f}",
                width=f"{right - left:.1f}",
                height=f"{bottom - top:.1f}",
                fill=COLOURS[0],
                class_="area0",
            )
        )
        middle = (left + right) / 2
        if notes:
            axes.add(text(middle, top - 4, notes[number], font_size=10))
        if number % every == 0:
            for line, words in enumerate(str(name).split("\n")):
                y = axes.bottom + 14 + LABEL_LINE_HEIGHT * line
                axes.add(text(middle, y, words, font_size=11 if len(names) < _MAX_LABELS else 10))
    axes.add_x_axis()
    return axes.image(y_label)


def confusion_matrix(
    names: Sequence[str], counts: np.ndarray, x_label: str, y_label: str, *, title: str = ""
) -> Element:
    """Counts [row, column] as squares, the larger the darker; rows and columns have these names."""
    classes = len(names)
    axes = Axes((0.0, classes), (classes, 0.0), title)
    axes.add_labels(x_label, y_label)
    for row in range(classes):
        for column in range(classes):
            left, top = axes.pixel(column, row)
            right, bottom = axes.pixel(column + 1, row + 1)
            fraction = counts[row, column] / max(counts.max(), 1)
            axes.add(
                element(
                    "rect",
                    x=f"{left:.1f}",
                    y=f"{top:.1f}",
                    width=f"{right - left:.1f}",
                    height=f"{bottom - top:.1f}",
                    fill=COLOURS[0],
                    fill_opacity=f"{0.05 + 0.7 * fraction:.3f}",
                    stroke="white",
                )
            )
            middle = (left + right) / 2, (top + bottom) / 2
            axes.add(text(*middle, f"{int(counts[row, column]):,}", font_size=16))
    for number, name in enumerate(names):
        x, y = axes.pixel(number + 0.5, number + 0.5)
        axes.add(text(x, axes.bottom + 18, name))
        turn = f"rotate(-90 {axes.left - 10:.1f} {y:.1f})"
        axes.add(text(axes.left - 10, y, name, transform=turn))
    return axes.image(f"{y_label}, {x_label}")
